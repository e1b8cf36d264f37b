"""Load a trained encoder with the transform of its images."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from mae_toolkit.checkpoints.encoder import load_pretrained
from mae_toolkit.checkpoints.hub_cache import parse_timm_name
from mae_toolkit.checkpoints.source import find_source
from mae_toolkit.config import load_config
from mae_toolkit.downstream.encoder_transform import EncoderTransform
from mae_toolkit.downstream.fit_encoder import for_downstream
from mae_toolkit.errors import UserError
from mae_toolkit.export.description import find_preparation
from mae_toolkit.export.known_encoder import KnownEncoder, read_known_encoder
from mae_toolkit.export.preparation import find_default_preparation
from mae_toolkit.export.source import TrainedEncoder, find_trained, require_config
from mae_toolkit.models import MaskedAutoencoder
from mae_toolkit.models.build import model_from_checkpoint
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.models.encoders.architectures import make_encoder_config
from mae_toolkit.registry import build
from mae_toolkit.timm_models import is_architecture


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
    return load_encoder_up_to(source, encoder, out_indices, device)


def load_encoder_up_to(
    source: str | Path,
    encoder: str | Mapping[str, Any] | None = None,
    out_indices: Sequence[int] | None = None,
    device: str = 'cpu',
    find_deepest: Callable[[Sequence[int]], int] | None = None,
) -> tuple[Encoder, EncoderTransform]:
    """Load an encoder as :func:`load_encoder` does, without what lies behind the deepest level that is read.

    The encoder in a detector or segmenter is loaded whole. Images are padded to multiples of the unit of what is there,
    as far as they are not: less than for a whole encoder, whose last levels have larger strides.

    Args:
        source: See :func:`load_encoder`.
        encoder: See :func:`load_encoder`.
        out_indices: See :func:`load_encoder`.
        device: Device of the encoder.
        find_deepest: From the strides of the levels to the deepest one that is read, counted from 1 for the finest;
            the last if None.
    """
    known = _look_up(source, encoder)
    if known.part and out_indices is None:  # the maps that the heads of a detector or segmenter get
        built = build(Encoder, known.config)
        load_pretrained(built, source if '#' in str(source) else f'{find_source(source)}#{known.part}', strict=True)
        return built.to(device).eval(), EncoderTransform(known.preparation)
    built = build_levels(known.config, out_indices, find_deepest)
    load_pretrained(built, source, strict=True)
    return built.to(device).eval(), EncoderTransform(known.preparation)


def load_autoencoder(
    source: str | Path, device: str = 'cpu', config: str | Path | Config | None = None
) -> tuple[MaskedAutoencoder, EncoderTransform]:
    """Load the whole model of a pretraining, in evaluation mode for masked images, and the transform of its images.

    Args:
        source: Folder of a run, or a checkpoint.
        device: Device of the model.
        config: Config of the pretraining; that in the folder or checkpoint if None.

    Raises:
        UserError: If there is no such run, or it is of another model.
    """
    cfg = None if config is None else config if isinstance(config, Config) else load_config(config)
    # Weights under any name beside a config, which need not be read for one.
    is_file = cfg is not None and not Path(source).is_dir()
    found = TrainedEncoder(Path(source), cfg) if is_file else find_trained(source, cfg)
    cfg = require_config(found)
    model = model_from_checkpoint(cfg, source if is_file else found.checkpoint, masked=True)
    if not isinstance(model, MaskedAutoencoder):
        raise UserError(
            f'{source} holds a {type(model).__name__}: reconstruction needs the run of a pretraining, a '
            'MaskedAutoencoder with its decoder.'
        )
    return model.to(device), EncoderTransform(find_preparation(found))


def build_levels(
    config: Mapping[str, Any],
    out_indices: Sequence[int] | None = None,
    find_deepest: Callable[[Sequence[int]], int] | None = None,
) -> Encoder:
    """Build an encoder for downstream use, with random weights.

    Args:
        config: Its config in pretraining.
        out_indices: Levels whose maps are returned; the last of each stride if None.
        find_deepest: See :func:`load_encoder_up_to`.
    """
    config, probe = for_downstream({key: value for key, value in config.items() if key != 'out_norms'})
    if out_indices is None:
        last = {stride: index for index, stride in enumerate(probe.out_strides)}
        out_indices = [probe.out_indices[index] for index in last.values()]
    chosen = type(probe).select_levels(config, out_indices)
    if find_deepest is not None:
        with torch.device('meta'):
            probe = build(Encoder, chosen)
        deepest = find_deepest(probe.out_strides)
        if len(probe.out_indices) == len(probe.out_strides):  # else the class has no choice of levels
            chosen = type(probe).select_levels(config, probe.out_indices[:deepest])
    return build(Encoder, chosen)


def _look_up(source: str | Path, encoder: str | Mapping[str, Any] | None) -> KnownEncoder:
    """Find out what the encoder of a source is, and how images are prepared for it."""
    arch, tag = parse_timm_name(source)
    if encoder is not None:
        config = make_encoder_config(encoder) if isinstance(encoder, str) else encoder
        own = config.get('arch', '')
        return KnownEncoder(config, find_default_preparation(own, tag if own == arch else ''))
    if (known := read_known_encoder(source)) is not None:
        return known
    if is_architecture(arch):
        return KnownEncoder(make_encoder_config(arch), find_default_preparation(arch, tag))
    raise UserError(
        f'{source} does not say what its encoder is: name the architecture of timm by --arch, or in Python by '
        "load_encoder(..., encoder='vit_base_patch16_224'), which also takes a config."
    )
