"""The names of timm's weights, and finding these in the local cache of Hugging Face, without a network."""

import glob
import itertools
from difflib import get_close_matches
from pathlib import Path

import timm
from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from timm.models import PretrainedCfg

from mae_toolkit.errors import UserError

SUFFIXES = ('.safetensors', '.bin', '.pth', '.pt')
FILES = ('model.safetensors', 'pytorch_model.bin')
CACHED = 'models--timm--'  # how the folder of a repository of timm begins in the cache


def parse_timm_name(weights: str | Path) -> tuple[str, str]:
    """Split the name of weights, which timm calls ``ARCH.TAG``, into architecture and tag.

    Example: ``'timm:convnextv2_tiny.fcmae'`` and ``'photos/convnextv2_tiny.fcmae.safetensors#model'`` both give
    ``('convnextv2_tiny', 'fcmae')``.

    Args:
        weights: ``[FORMAT:]FILE[#PART]``. For a file in the cache of Hugging Face, the name is that of its repository.

    Returns:
        Architecture and tag as they are written, whether timm knows them or not; empty where there is none.
    """
    path = Path(str(weights).rpartition(':')[2])
    name = find_cached_name(path) or path.name.partition('#')[0]
    name = next((name.removesuffix(end) for end in SUFFIXES if name.endswith(end)), name)
    arch, _, tag = name.partition('.')
    return arch, tag


def find_cached_name(path: Path) -> str | None:
    """Return timm's name of weights in the cache of Hugging Face; None of those that lie elsewhere.

    Args:
        path: The file, such as ``models--timm--NAME/snapshots/REVISION/model.safetensors``; it may end in ``#PART``.
    """
    if path.name.partition('#')[0] not in FILES or len(path.parents) < 4:
        return None
    snapshots, repository = path.parents[1].name, path.parents[2].name
    is_cached = snapshots == 'snapshots' and repository.startswith(CACHED)
    return repository.removeprefix(CACHED) if is_cached else None


def find_timm_settings(arch: str, tag: str = '') -> PretrainedCfg | None:
    """Return what timm says of weights (license, mean and std, repository); None if it does not know them.

    Args:
        arch: The architecture.
        tag: The training; empty for the one that timm prefers.
    """
    try:
        return timm.get_pretrained_cfg(f'{arch}.{tag}' if tag else arch)
    except RuntimeError:  # the architecture has no such training
        return None


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
    arch, tag = (name, '') if '/' in name else parse_timm_name(name)  # the path of a file that is not there has no name
    name = f'{arch}.{tag}' if tag else arch
    repositories = dict.fromkeys((f'timm/{name}', _find_repository(arch, tag)))
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


def _find_repository(arch: str, tag: str) -> str | None:
    """Return the repository of weights that timm knows; None if it knows none of this name."""
    settings = find_timm_settings(arch, tag)
    if settings is None:
        return None
    name = f'{arch}.{tag}' if tag else arch
    repository = settings.hf_hub_id or f'timm/{name}'
    return str(f'{repository}{name}' if repository.endswith('/') else repository)


def _nearest(name: str) -> str:
    """Say which weights of timm have the nearest names."""
    trainings = timm.list_pretrained(f'{glob.escape(name.split(".")[0])}.*')
    near = trainings[:4] or get_close_matches(name, timm.list_pretrained(), n=3)
    return f'the nearest are {", ".join(near)}' if near else 'timm.list_pretrained() lists those that it has'
