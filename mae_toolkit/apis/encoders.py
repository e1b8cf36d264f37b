"""Load a trained encoder with the transform of its images."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from timm.models import get_pretrained_cfg

from mae_toolkit.checkpoints.encoder import load_pretrained
from mae_toolkit.checkpoints.run_folder import is_run
from mae_toolkit.checkpoints.source import IN_FOLDERS, find_source
from mae_toolkit.downstream.encoder_transform import EncoderTransform
from mae_toolkit.downstream.fit_encoder import for_downstream
from mae_toolkit.errors import UserError
from mae_toolkit.export.description import KEY, find_preparation
from mae_toolkit.export.folder import CONFIG
from mae_toolkit.export.preparation import Preparation, read_plain, read_timm
from mae_toolkit.export.source import find_trained
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.models.encoders.architectures import make_encoder_config
from mae_toolkit.models.encoders.timm_body import FIXED
from mae_toolkit.registry import build
from mae_toolkit.timm_models import is_architecture

IMAGENET = Preparation((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), (224, 224), 256)


@dataclass(frozen=True)
class KnownEncoder:
    """What is known of the encoder in a file.

    Attributes:
        config: Its config in pretraining.
        preparation: How images are prepared for it.
    """

    config: Mapping[str, Any]
    preparation: Preparation


def load_encoder(
    source: str | Path,
    encoder: str | Mapping[str, Any] | None = None,
    out_indices: Sequence[int] | None = None,
    device: str = 'cpu',
) -> tuple[Encoder, EncoderTransform]:
    """Load a trained encoder, in evaluation mode, and the transform from an image to what it takes.

    Example::

        encoder, transform = load_encoder('runs/photos')
        with torch.inference_mode():
            maps = encoder(transform('photo.jpg')[None])  # (1, C_i, H/s_i, W/s_i) of each level, from fine to coarse
        vector = maps[-1].mean((2, 3))  # one per image

    ``encoder.encode(imgs).prefixes`` are the class and register tokens, ``encoder.out_channels`` and
    ``encoder.out_strides`` say what the maps are.

    Args:
        source: Folder of a run, a folder that ``mae-toolkit export`` or timm wrote, a checkpoint, or weights under any
            name that ``--from`` takes, such as ``'timm:convnextv2_tiny.fcmae'``.
        encoder: Where the source does not say what its encoder is: the architecture in timm, or a config.
        out_indices: Levels whose maps are returned, see the class of the encoder; by default the last of each stride.
        device: Device of the encoder.

    Returns:
        The encoder, and a function of a path, a picture of Pillow or an array, which returns the tensor (C, H, W).

    Raises:
        UserError: If there is no such source, it does not say what its encoder is, or its weights do not fit.
    """
    known = _look_up(source, encoder)
    config, probe = for_downstream({key: value for key, value in known.config.items() if key != 'out_norms'})
    if out_indices is None:
        last = {stride: index for index, stride in enumerate(probe.out_strides)}
        out_indices = [probe.out_indices[index] for index in last.values()]
    built = build(Encoder, type(probe).select_levels(config, out_indices))
    load_pretrained(built, source, strict=True)
    return built.to(device).eval(), EncoderTransform(known.preparation)


def _look_up(source: str | Path, encoder: str | Mapping[str, Any] | None) -> KnownEncoder:
    """Find out what the encoder of a source is, and how images are prepared for it."""
    path = find_source(source).path
    description = path.with_name(CONFIG)  # beside exported weights, and in the cache of Hugging Face
    if encoder is not None:
        config = make_encoder_config(encoder) if isinstance(encoder, str) else encoder
        return KnownEncoder(config, _read_default(config.get('arch', '')))
    if path.name in IN_FOLDERS and description.is_file() and (known := _read_description(description)):
        return known
    found = find_trained(source if is_run(source) and not path.with_name(CONFIG).is_file() else path)
    if found.cfg is not None:
        return KnownEncoder(found.cfg.model.encoder, find_preparation(found))
    arch, tag, *_ = [*Path(str(source).rpartition(':')[2]).name.split('.'), '']  # convnextv2_tiny.fcmae.safetensors
    if is_architecture(arch):
        return KnownEncoder(make_encoder_config(arch), _read_default(arch, tag))
    raise UserError(
        f'{source} does not say what its encoder is: name the architecture of timm or give a config, as '
        "load_encoder(..., encoder='vit_base_patch16_224')."
    )


def _read_description(path: Path) -> KnownEncoder | None:
    """Read the config.json beside weights; None if it is neither one of ours nor one of timm's.

    Raises:
        UserError: If it is damaged.
    """
    try:
        return _parse_description(json.loads(path.read_text()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f'{path} does not describe the encoder beside it ({type(error).__name__}: {error}): export it again, or '
            "name the architecture, as load_encoder(..., encoder='vit_base_patch16_224')."
        ) from None


def _parse_description(values: Any) -> KnownEncoder | None:
    if isinstance(values, dict) and KEY in values:
        return KnownEncoder(values[KEY]['encoder'], read_plain(values[KEY]['preparation']))
    if not isinstance(values, dict) or not is_architecture(values.get('architecture')):
        return None
    about = values.get('pretrained_cfg', values)  # older ones have it all on one level
    given = {key: value for key, value in values.get('model_args', {}).items() if key not in (*FIXED, 'use_fc_norm')}
    return KnownEncoder(make_encoder_config(values['architecture'], **given), read_timm(about))


def _read_default(arch: str, tag: str = '') -> Preparation:
    """Return how images are prepared for weights of timm, else for its architecture, else for ImageNet."""
    for name in (f'{arch}.{tag}', arch):
        try:
            found = get_pretrained_cfg(name)
        except RuntimeError:  # there are no weights of this tag
            continue
        if found is not None:
            return read_timm(found.to_dict())
    return IMAGENET
