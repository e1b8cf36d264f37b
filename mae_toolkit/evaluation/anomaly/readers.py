"""What methods are given of images: the features of an encoder, level beside level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.embeddings.parts import encode_in_parts
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.models.features import Features
from mae_toolkit.printing import format_count

STRIDES = (8, 16)  # of the levels that are read by default, as PatchCore reads those of a ResNet


class Reader(Protocol):
    """A model that makes maps for a method."""

    @property
    def model(self) -> nn.Module:
        """Return the network, on whose weights a fitted detector depends."""

    def __call__(self, imgs: Tensor) -> Tensor:
        """Make maps (B, D, h, w) of images (B, C, H, W)."""


class FeatureReader:
    """Read levels of an encoder as one map.

    Each level is averaged over its neighborhood, resized to the finest one, and they are put behind each other.

    Args:
        encoder: The encoder.
        levels: Levels, counted from 1 for the finest; by default those of strides 8 and 16, or the last one.
        local: Positions per side over which features are averaged, an odd number; 1 leaves them as they are.

    Attributes:
        network: What runs: the encoder for inference, which does not follow later changes of the encoder.

    Raises:
        UserError: If there is no such level, or ``local`` is even.
    """

    def __init__(self, encoder: Encoder, levels: Sequence[int] | None = None, local: int = 1) -> None:
        find_deepest_level(encoder.out_strides, levels)
        if local < 1 or local % 2 == 0:
            raise UserError(f'local={local} must be an odd number of positions: 1 or 3.')
        self.model = self.encoder = encoder
        self.network = encoder.for_inference()
        self.levels = tuple(levels) if levels else choose_levels(encoder.out_strides)
        self.local = local

    def __call__(self, imgs: Tensor) -> Tensor:
        """Make one map (B, D, h, w) of images (B, C, H, W)."""
        parts = encode_in_parts(self.network, imgs, self._join)
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _join(self, features: Features) -> Tensor:
        """Make one map of the levels."""
        maps, strides = features.maps, self.encoder.out_strides
        finest = min(self.levels, key=lambda level: strides[level - 1])
        size = maps[finest - 1].shape[-2:]
        return torch.cat([self._fit(maps[i - 1], strides[i - 1] / strides[finest - 1], size) for i in self.levels], 1)

    def _fit(self, x: Tensor, scale: float, size: Sequence[int]) -> Tensor:
        """Average a level, resize it to the stride of the finest, and cut it to its size."""
        x = avg_pool2d(x.float(), self.local, 1, self.local // 2) if self.local > 1 else x.float()
        if scale != 1:
            x = interpolate(x, [round(scale * side) for side in x.shape[-2:]], mode='bilinear', align_corners=False)
        return x[..., : size[0], : size[1]]


def find_deepest_level(strides: Sequence[int], levels: Sequence[int] | None = None) -> int:
    """Find the deepest level that is read, counted from 1 for the finest; what lies behind it need not be computed.

    Args:
        strides: Strides of the levels that there are.
        levels: Levels that are read; None for those of :func:`choose_levels`.

    Raises:
        UserError: If there is no such level.
    """
    wrong = [level for level in levels or () if not 1 <= level <= len(strides)]
    if wrong:
        raise UserError(
            f'There is no level {wrong[0]}: the encoder has {format_count(len(strides), "level")}, 1 the finest.'
        )
    return max(levels or choose_levels(strides))


def choose_levels(strides: Sequence[int]) -> tuple[int, ...]:
    """Choose the levels, counted from 1, of the strides that PatchCore reads; the last if there are none of them."""
    chosen = tuple(level for level, stride in enumerate(strides, 1) if stride in STRIDES)
    return chosen or (len(strides),)
