"""Large images in overlapping tiles: where they lie, and one map of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from mae_toolkit.errors import UserError

Place = tuple[int, int]  # top and left in pixels of the image


@dataclass(frozen=True)
class Tiling:
    """Square tiles of an image, of one size, that cover it and overlap.

    Args:
        side: Pixels per side of a tile.
        overlap: Share of a side by which neighbors overlap at least, from 0 to below 1.

    Raises:
        UserError: If the overlap is out of its range.
    """

    side: int
    overlap: float = 0.25

    def __post_init__(self) -> None:
        """Refuse an overlap with which tiles would not move on."""
        if self.side < 1 or not 0 <= self.overlap < 1:
            raise UserError(
                f'Tiles of {self.side} pixels with overlap={self.overlap}: the side must be 1 or more, and the overlap '
                'from 0 to below 1.'
            )

    def place(self, height: int, width: int) -> list[Place]:
        """Return the places of the tiles, at equal distances, row by row.

        Raises:
            UserError: If the image is smaller than a tile.
        """
        if min(height, width) < self.side:
            raise UserError(
                f'An image of {height} x {width} pixels is smaller than a tile of {self.side}: choose smaller tiles, '
                'or none.'
            )
        return [(top, left) for top in self._starts(height) for left in self._starts(width)]

    def _starts(self, length: int) -> list[int]:
        rest = length - self.side
        steps = ceil(rest / max(1, int(self.side * (1 - self.overlap))))
        return [rest * i // steps for i in range(steps + 1)] if steps else [0]


def merge_tiles(maps: Tensor, places: Sequence[Place], size: tuple[int, int]) -> Tensor:
    """Merge the maps of tiles into that of the image; where tiles overlap, they count less toward their borders.

    Args:
        maps: (T, s, s), in pixels of the image.
        places: Where the tiles lie.
        size: Height and width of the image.

    Returns:
        (H, W).
    """
    side = maps.shape[-1]
    ramp = torch.minimum(torch.arange(1, side + 1), torch.arange(side, 0, -1)).to(maps)
    window = ramp[:, None] * ramp
    total, weight = maps.new_zeros(size), maps.new_zeros(size)
    for one, (top, left) in zip(maps, places, strict=True):
        total[top : top + side, left : left + side] += one * window
        weight[top : top + side, left : left + side] += window
    return total / weight
