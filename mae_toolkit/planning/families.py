"""Families of encoders: by which method, template and decoder they are pretrained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


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
        is_convolutional: Whether it is no transformer.
        arguments: Arguments of the encoder in the template on which the cells of the mask depend.
    """

    name: str
    title: str
    method: str
    decoders: tuple[Decoder, Decoder, Decoder]
    is_convolutional: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)


SMALL_TRANSFORMERS = (Decoder(128, 4), Decoder(256, 4), Decoder(512, 8))
ONE_BLOCK = (Decoder(128, 1), Decoder(256, 1), Decoder(512, 1))
# By the encoder, which its ``timm_classes`` choose for an architecture.
FAMILIES = {
    'ViT': Family('vit', 'a vision transformer', 'MAE', SMALL_TRANSFORMERS),
    'Eva': Family('eva', 'a vision transformer with rotary positions', 'MAE', SMALL_TRANSFORMERS),
    'ConvNeXt': Family('convnextv2', 'a ConvNeXt', 'FCMAE', ONE_BLOCK, is_convolutional=True),
    'Swin': Family('swin', 'a Swin', 'GreenMIM', ONE_BLOCK),
    'Hiera': Family(
        'hiera', 'a Hiera', "Hiera's MAE", SMALL_TRANSFORMERS, arguments=dict(q_pool=2, out_indices=(0, 1, 3))
    ),
    'SparseCNN': Family('sparse-cnn', 'a CNN', 'SparK', ONE_BLOCK, is_convolutional=True),
}
