"""A masking that hides where there is much to see."""

import torch
from torch.nn.functional import avg_pool2d, pad

from mae_toolkit.errors import UserError
from mae_toolkit.models.maskings import Masking
from mae_toolkit.registry import MODELS


@MODELS.register_module()
class EdgeMasking(Masking):
    """Cells with strong edges are hidden more often than smooth ones, with chance.

    Cells count by their place in the order of edge strength within the image, so that contrast does not matter.

    Args:
        strength (float): 0 is chance alone, 1 hides the strongest edges for certain.
        **kwargs: As of :class:`Masking`.

    Raises:
        UserError: If the strength is not between 0 and 1.
    """

    def __init__(self, strength=0.5, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= strength <= 1:
            raise UserError(f'EdgeMasking: strength={strength} is between 0 (chance) and 1 (edges alone).')
        self.strength = strength

    def score(self, imgs, h, w):
        """Scores (B, h, w): a mean of chance and of the rank of the cell's edges."""
        edges = avg_pool2d(edge_strength(imgs), self.unit).flatten(1)  # (B, h*w)
        rank = edges.argsort(1).argsort(1).view(-1, h, w) / (h * w)
        return self.strength * rank + (1 - self.strength) * torch.rand_like(rank)


def edge_strength(imgs):
    """Absolute differences to the neighbors below and to the right, summed: (B, C, H, W) -> (B, 1, H, W)."""
    below = pad(imgs.diff(dim=2).abs(), (0, 0, 0, 1))
    right = pad(imgs.diff(dim=3).abs(), (0, 1))
    return (below + right).sum(1, keepdim=True)
