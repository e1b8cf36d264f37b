"""Finding timm's weights in the local cache of Hugging Face, without a network."""

import glob
import itertools
from difflib import get_close_matches
from pathlib import Path

import timm
from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from mae_toolkit.errors import UserError

SUFFIXES = ('.safetensors', '.bin', '.pth', '.pt')
FILES = ('model.safetensors', 'pytorch_model.bin')


def find_in_cache(name: str) -> Path:
    """Find weights of timm that another program has downloaded.

    Args:
        name: Architecture and training, such as ``'convnextv2_tiny.fcmae'``; an architecture alone stands for timm's
            preferred training of it. ``timm/`` before the name and the suffix of a file behind it are ignored.

    Raises:
        UserError: If timm has no such weights, with the nearest names, or they are not in the cache, with the command
            that downloads them.
    """
    name = name.removeprefix('timm/')
    name = next((name.removesuffix(end) for end in SUFFIXES if name.endswith(end)), name)
    repositories = dict.fromkeys((f'timm/{name}', _find_repository(name)))
    for repository, file in itertools.product(repositories, FILES):
        found = None if repository is None else _look_up(repository, file)
        if found is not None:
            return found
    repository = list(repositories)[-1]
    if repository is None:
        raise UserError(
            f'There is no file {name}, and timm has no weights of this name: {_nearest(name)}; nothing is downloaded.'
        )
    raise UserError(
        f'{repository} is not in the cache of Hugging Face ({constants.HF_HUB_CACHE}), and nothing is downloaded: get '
        f'it by `hf download {repository} {FILES[0]}`, or give the path of a file.'
    )


def _look_up(repository: str, file: str) -> Path | None:
    try:
        found = try_to_load_from_cache(repository, file)
    except HFValidationError:  # no name of a repository
        return None
    return Path(found) if isinstance(found, str) else None


def _find_repository(name: str) -> str | None:
    """Return the repository of weights that timm knows; None if it knows none of this name."""
    try:
        settings = timm.get_pretrained_cfg(name)
    except RuntimeError:  # the architecture has no such training
        return None
    if settings is None:
        return None
    repository = settings.hf_hub_id or f'timm/{name}'
    return str(f'{repository}{name}' if repository.endswith('/') else repository)


def _nearest(name: str) -> str:
    """Say which weights of timm have the nearest names."""
    trainings = timm.list_pretrained(f'{glob.escape(name.split(".")[0])}.*')
    near = trainings[:4] or get_close_matches(name, timm.list_pretrained(), n=3)
    return f'the nearest are {", ".join(near)}' if near else 'timm.list_pretrained() lists those that it has'
