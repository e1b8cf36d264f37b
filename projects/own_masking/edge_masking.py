"""A masking that hides cells with strong edges."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from mae_toolkit.errors import UserError
from mae_toolkit.models.maskings import Masking
from mae_toolkit.registry import MODELS


@MODELS.register_module()
class EdgeMasking(Masking):
    """Masking that hides cells with strong edges more often than smooth ones.

    Cells are ranked by the strength of their edges within the image, so that its contrast does not matter.

    Args:
        strength: 0 hides cells at random, 1 hides those with the strongest edges for certain.
        **kwargs: See :class:`Masking`.

    Raises:
        UserError: If the strength is not between 0 and 1.
    """

    def __init__(self, strength: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= strength <= 1:
            raise UserError(f'EdgeMasking: strength={strength} must be between 0 (chance) and 1 (edges alone).')
        self.strength = strength

    def score(self, imgs: Tensor, h: int, w: int) -> Tensor:
        """Average chance and the rank of the edges of each cell: (B, h, w)."""
        edges = avg_pool2d(measure_edges(imgs), self.unit).flatten(1)  # (B, h*w)
        rank = edges.argsort(1).argsort(1).view(-1, h, w) / (h * w)
        return self.strength * rank + (1 - self.strength) * torch.rand_like(rank)


def measure_edges(imgs: Tensor) -> Tensor:
    """Sum the absolute differences to the neighbors below and to the right: (B, C, H, W) -> (B, 1, H, W)."""
    below = pad(imgs.diff(dim=2).abs(), (0, 0, 0, 1))
    right = pad(imgs.diff(dim=3).abs(), (0, 1))
    return (below + right).sum(1, keepdim=True)
