"""What is known of an architecture of timm before it is trained: family, size, and cells of the mask."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import timm
import torch

from mae_toolkit.checkpoints.encoder import check_pretrained
from mae_toolkit.errors import UserError
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.models.encoders.architectures import make_encoder_config
from mae_toolkit.planning.families import FAMILIES, Decoder, Family
from mae_toolkit.registry import build
from mae_toolkit.timm_models import is_architecture

MOST_OF_TINY, MOST_OF_SMALL = 12_000_000, 60_000_000  # parameters of an encoder, by which its decoder is chosen
STRIDES = (4, 8, 16, 32)  # of the maps of a CNN from which SparK's decoder makes a picture
LEAST_LEVELS = 3  # with such strides, by which a CNN differs from networks of one resolution


@dataclass(frozen=True)
class EncoderFacts:
    """What is known of an architecture before it is trained.

    Attributes:
        arch: Its name in timm.
        family: Its family.
        parameters: Number of parameters.
        unit: Pixels per side of a cell of the mask.
        levels: For a CNN, the levels whose strides are 4 to 32, as timm counts them; else None.
    """

    arch: str
    family: Family
    parameters: int
    unit: int
    levels: tuple[int, ...] | None = None

    @property
    def decoder(self) -> Decoder:
        """Return the decoder that fits its size."""
        size = sum(self.parameters > most for most in (MOST_OF_TINY, MOST_OF_SMALL))
        return self.family.decoders[size]


def look_up_encoder(arch: str) -> EncoderFacts:
    """Find family, size and mask unit of an architecture of timm.

    Args:
        arch: Its name, such as ``'convnextv2_tiny'``.

    Raises:
        UserError: If timm has no such architecture, or no encoder runs it.
    """
    check_architecture(arch)
    config = _make_config(arch)
    family = FAMILIES[config['type']]
    levels = config['out_indices'] if config['type'] == 'SparseCNN' else None
    with torch.device('meta'):
        encoder = build(Encoder, config)
    parameters = sum(parameter.numel() for parameter in encoder.parameters())
    return EncoderFacts(arch, family, parameters, encoder.mask_unit, levels)


def check_weights(arch: str, weights: str, channels_rule: str | None = None) -> None:
    """Refuse weights that an architecture cannot begin its pretraining with, before any work.

    Args:
        arch: Its name.
        weights: ``[FORMAT:]FILE[#PART]``.
        channels_rule: How weights for another number of channels are converted.

    Raises:
        UserError: If there are none in the file, or they do not fit.
    """
    check_pretrained(build(Encoder, _make_config(arch)), weights, channels=channels_rule or 'sum')


def _make_config(arch: str) -> dict[str, Any]:
    """Make the config of the encoder of a pretraining."""
    config = make_encoder_config(arch)
    is_cnn = config['type'] == 'SparseCNN'
    return config | ({'out_indices': _list_levels(arch)} if is_cnn else dict(FAMILIES[config['type']].arguments))


def check_architecture(arch: str) -> None:
    """Refuse what is no architecture of timm, with the nearest names, or with the way to name weights.

    Args:
        arch: What the user calls an architecture.

    Raises:
        UserError: If it is none.
    """
    if is_architecture(arch):
        return
    name, _, tag = arch.removeprefix('timm:').partition('.')
    if is_architecture(name) and tag:
        raise UserError(
            f'--encoder {arch} names weights: give the architecture, --encoder {name}, and the weights by --from '
            f'timm:{name}.{tag}.'
        )
    near = get_close_matches(arch, timm.list_models(), 4, 0.5)
    hint = f': did you mean {", ".join(near)}?' if near else ': timm.list_models() lists all of them.'
    raise UserError(f'timm has no architecture {arch!r}{hint}')


def _list_levels(arch: str) -> tuple[int, ...]:
    """List the levels of a CNN that have the strides 4 to 32, the last of each stride."""
    with torch.device('meta'):
        body: Any = timm.create_model(arch, num_classes=0)
    info = [level for level in getattr(body, 'feature_info', []) if isinstance(level, dict) and 'reduction' in level]
    last = {level['reduction']: index for index, level in enumerate(info)}
    levels = tuple(sorted(last[stride] for stride in STRIDES if stride in last))
    if len(levels) < LEAST_LEVELS:
        raise UserError(
            f'{arch!r} is a {type(body).__name__} of timm, which no encoder of this toolkit runs on visible pixels '
            'alone: choose a ViT, ConvNeXt, Swin, Hiera or a CNN such as resnet50.'
        )
    return levels
