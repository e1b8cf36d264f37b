"""Families of encoders: which template, decoder and learning rate an architecture of timm gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import timm
import torch
from timm.models import Beit, ConvNeXt, Eva, Hiera, SwinTransformer, SwinTransformerV2, VisionTransformer

from mae_toolkit.checkpoints.encoder import check_pretrained
from mae_toolkit.errors import UserError
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.registry import build
from mae_toolkit.timm_models import find_timm_class, is_architecture

MOST_OF_TINY, MOST_OF_SMALL = 12_000_000, 60_000_000  # parameters of an encoder, by which its decoder is chosen
STRIDES = (4, 8, 16, 32)  # of the maps of a CNN from which SparK's decoder makes a picture
LEAST_LEVELS = 3  # with such strides, by which a CNN is told from networks of one resolution


@dataclass(frozen=True)
class Decoder:
    """Width and depth of a decoder.

    Attributes:
        width: Its channels.
        depth: Its blocks.
    """

    width: int
    depth: int


@dataclass(frozen=True)
class Family:
    """A family of encoders.

    Attributes:
        name: Name of its template in ``configs/pretrain/custom``.
        title: What it is called in a sentence.
        method: By which method it is pretrained.
        decoders: Decoder for an encoder that is tiny, small or large.
    """

    name: str
    title: str
    method: str
    decoders: tuple[Decoder, Decoder, Decoder]


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


SMALL_TRANSFORMERS = (Decoder(128, 4), Decoder(256, 4), Decoder(512, 8))
ONE_BLOCK = (Decoder(128, 1), Decoder(256, 1), Decoder(512, 1))
VIT = Family('vit', 'a vision transformer', 'MAE', SMALL_TRANSFORMERS)
EVA = Family('eva', 'a vision transformer with rotary positions', 'MAE', SMALL_TRANSFORMERS)
CONVNEXT = Family('convnextv2', 'a ConvNeXt', 'FCMAE', ONE_BLOCK)
SWIN = Family('swin', 'a Swin', 'GreenMIM', ONE_BLOCK)
HIERA = Family('hiera', 'a Hiera', "Hiera's MAE", SMALL_TRANSFORMERS)
CNN = Family('sparse-cnn', 'a CNN', 'SparK', ONE_BLOCK)
# The first whose class fits; whatever is none of these is tried as a CNN.
CLASSES: tuple[tuple[tuple[type, ...], Family], ...] = (
    ((VisionTransformer, Beit), VIT),
    ((Eva,), EVA),
    ((ConvNeXt,), CONVNEXT),
    ((SwinTransformer, SwinTransformerV2), SWIN),
    ((Hiera,), HIERA),
)


def look_up_encoder(arch: str, channels: int = 3) -> EncoderFacts:
    """Find family, size and mask unit of an architecture of timm.

    Args:
        arch: Its name, such as ``'convnextv2_tiny'``.
        channels: Channels of the images.

    Raises:
        UserError: If timm has no such architecture, or no encoder runs it.
    """
    refuse_other_names(arch)
    kind = find_timm_class(arch, '')
    family = next((family for kinds, family in CLASSES if issubclass(kind, kinds)), CNN)
    config = _ENCODERS[family.name](arch)
    levels = tuple(config['out_indices']) if family is CNN else None
    with torch.device('meta'):
        encoder = build(Encoder, config | {'in_chans': channels})
    parameters = sum(parameter.numel() for parameter in encoder.parameters())
    return EncoderFacts(arch, family, parameters, encoder.mask_unit, levels)


def check_weights(encoder: EncoderFacts, weights: str, channels_rule: str | None = None) -> None:
    """Refuse weights that an architecture cannot begin with, before any work.

    Args:
        encoder: The architecture.
        weights: ``[FORMAT:]FILE[#PART]``.
        channels_rule: How weights for another number of channels are converted.

    Raises:
        UserError: If there are none in the file, or they do not fit.
    """
    check_pretrained(
        build(Encoder, _ENCODERS[encoder.family.name](encoder.arch)), weights, channels=channels_rule or 'sum'
    )


def refuse_other_names(arch: str) -> None:
    """Refuse what is no architecture, with the nearest names, or with the way to name weights.

    Args:
        arch: What the user gave.

    Raises:
        UserError: If timm has no architecture of this name.
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


_ENCODERS: dict[str, Callable[[str], dict[str, Any]]] = {
    'vit': lambda arch: dict(type='ViT', arch=arch),
    'eva': lambda arch: dict(type='Eva', arch=arch),
    'convnextv2': lambda arch: dict(type='ConvNeXt', arch=arch),
    'swin': lambda arch: dict(type='Swin', arch=arch),
    'hiera': lambda arch: dict(type='Hiera', arch=arch, q_pool=2, out_indices=(0, 1, 3)),
    'sparse-cnn': lambda arch: dict(type='SparseCNN', arch=arch, out_indices=_list_levels(arch)),
}
