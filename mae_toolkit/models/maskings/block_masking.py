"""Masks of rectangles."""

import math

import torch

from mae_toolkit.errors import UserError
from mae_toolkit.models.maskings.masking import Masking
from mae_toolkit.registry import MODELS


@MODELS.register_module()
class BlockMasking(Masking):
    """Rectangles of random size and shape are hidden, one after the other (BEiT, arXiv:2106.08254, algorithm 1).

    Each has an area between ``min_cells`` and what is still to be hidden, and lies anywhere, the edges included. The
    last one is cut to the exact number of cells, from its border inwards.

    Args:
        min_cells (int): Least area of a rectangle.
        aspect (float): Smallest ratio of its sides; the largest is the inverse.
        blocks (int): Rectangles that are drawn; should they not suffice, single cells are hidden, too.
        **kwargs: As of :class:`Masking`.
    """

    def __init__(self, min_cells=16, aspect=0.3, blocks=10, **kwargs):
        super().__init__(**kwargs)
        if min_cells < 1 or not 0 < aspect <= 1 or blocks < 1:
            raise UserError(
                f'{type(self).__name__}: min_cells={min_cells} and blocks={blocks} are 1 or more, and aspect={aspect} '
                'lies between 0 and 1.'
            )
        self.min_cells, self.aspect, self.blocks = min_cells, aspect, blocks

    def score(self, imgs, h, w):
        """Scores (B, h, w): the earlier the rectangle that covers a cell, the higher; within it, towards its center."""
        return self.rectangles(imgs, h, w, self.num_hidden(h * w))

    def rectangles(self, imgs, h, w, count):
        """Scores (B, h, w) of rectangles that cover ``count`` cells together."""
        b, device = len(imgs), imgs.device
        score = torch.rand(b, h, w, device=device) - 2  # of what no rectangle covers, below all others
        covered = torch.zeros(b, h, w, dtype=torch.bool, device=device)
        for k, draw in enumerate(torch.rand(self.blocks, 4, b, device=device)):
            left = count - covered.flatten(1).sum(1)
            area = self.min_cells + draw[0] * (left - self.min_cells).clamp(min=0)
            aspect = torch.exp((2 * draw[1] - 1) * math.log(self.aspect))
            rows = _from_center((area * aspect).sqrt(), draw[2], h)  # (B, h)
            columns = _from_center((area / aspect).sqrt(), draw[3], w)  # (B, w)
            distance = torch.maximum(rows[:, :, None], columns[:, None])  # (B, h, w), below 1 within the rectangle
            new = (distance < 1) & ~covered
            score = torch.where(new, self.blocks - k - distance, score)
            covered |= new
        return score


@MODELS.register_module()
class InverseBlockMasking(BlockMasking):
    """Rectangles are what is visible (data2vec 2.0, arXiv:2212.07525, section 3.3)."""

    def score(self, imgs, h, w):
        """Scores (B, h, w): what the first rectangles cover is hidden last."""
        return -self.rectangles(imgs, h, w, h * w - self.num_hidden(h * w))


def _from_center(length, place, n):
    """Distance (B, n) of n cells from the center of an interval in units of half its length, which is rounded."""
    length = length.round().clamp(1, n).unsqueeze(1)  # (B, 1)
    start = (place.unsqueeze(1) * (n - length + 1)).floor().clamp(max=n - length)
    cells = torch.arange(n, device=length.device) + 0.5
    return (cells - start - length / 2).abs() / (length / 2)
