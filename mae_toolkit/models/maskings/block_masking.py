"""Masks of rectangles."""

import math
from typing import Any

import torch
from torch import Tensor

from mae_toolkit.errors import UserError
from mae_toolkit.models.maskings.masking import Masking
from mae_toolkit.registry import MODELS


@MODELS.register_module()
class BlockMasking(Masking):
    """Masking that hides rectangles of random size and shape, one by one (BEiT, arXiv:2106.08254, algorithm 1).

    Each rectangle has an area between ``min_cells`` and the number of cells that are still to be hidden, and lies
    anywhere in the image. The last one is cut to the exact number of cells, from its border inwards.

    Args:
        min_cells: Smallest area of a rectangle.
        aspect: Smallest ratio of its sides; the largest is the inverse.
        blocks: Number of rectangles to draw; if they do not suffice, single cells are hidden, too.
        **kwargs: See :class:`Masking`.

    Raises:
        UserError: If an argument is out of its range.
    """

    def __init__(self, min_cells: int = 16, aspect: float = 0.3, blocks: int = 10, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if min_cells < 1 or not 0 < aspect <= 1 or blocks < 1:
            raise UserError(
                f'{type(self).__name__}: min_cells={min_cells} and blocks={blocks} must be 1 or more, aspect={aspect} '
                'between 0 and 1.'
            )
        self.min_cells, self.aspect, self.blocks = min_cells, aspect, blocks

    def score(self, imgs: Tensor, h: int, w: int) -> Tensor:
        """Score cells (B, h, w): the earlier a rectangle covers them and the closer to its center, the higher."""
        return self.score_rectangles(imgs, h, w, self.count_hidden(h * w))

    def score_rectangles(self, imgs: Tensor, h: int, w: int, count: int) -> Tensor:
        """Draw rectangles that cover about ``count`` cells together, and score the cells (B, h, w) by them."""
        b, device = len(imgs), imgs.device
        score = torch.rand(b, h, w, device=device) - 2  # cells outside all rectangles come last
        covered = torch.zeros(b, h, w, dtype=torch.bool, device=device)
        for k, draw in enumerate(torch.rand(self.blocks, 4, b, device=device)):
            left = count - covered.flatten(1).sum(1)
            area = self.min_cells + draw[0] * (left - self.min_cells).clamp(min=0)
            aspect = torch.exp((2 * draw[1] - 1) * math.log(self.aspect))
            rows = _distance_from_center((area * aspect).sqrt(), draw[2], h)  # (B, h)
            columns = _distance_from_center((area / aspect).sqrt(), draw[3], w)  # (B, w)
            distance = torch.maximum(rows[:, :, None], columns[:, None])  # (B, h, w), below 1 within the rectangle
            new = (distance < 1) & ~covered
            score = torch.where(new, self.blocks - k - distance, score)
            covered |= new
        return score


@MODELS.register_module()
class InverseBlockMasking(BlockMasking):
    """Masking that keeps rectangles visible and hides the rest (data2vec 2.0, arXiv:2212.07525, section 3.3).

    Args:
        **kwargs: See :class:`BlockMasking`.
    """

    def score(self, imgs: Tensor, h: int, w: int) -> Tensor:
        """Score cells (B, h, w): the earlier a rectangle covers them, the lower."""
        return -self.score_rectangles(imgs, h, w, h * w - self.count_hidden(h * w))


def _distance_from_center(length: Tensor, place: Tensor, n: int) -> Tensor:
    """Measure the distance (B, n) of n cells from the center of an interval, in units of half its rounded length.

    Args:
        length: (B,), in cells.
        place: (B,) from 0 to 1: where the interval lies, from the first to the last possible place.
        n: Cells in a row.
    """
    length = length.round().clamp(1, n).unsqueeze(1)  # (B, 1)
    start = (place.unsqueeze(1) * (n - length + 1)).floor().clamp(max=n - length)
    cells = torch.arange(n, device=length.device) + 0.5
    return (cells - start - length / 2).abs() / (length / 2)
