"""Masks that follow a grid of blocks."""

from typing import Any

import torch
from torch import Tensor

from mae_toolkit.errors import UserError
from mae_toolkit.models.maskings.masking import Masking
from mae_toolkit.registry import MODELS


class BlockedMasking(Masking):
    """Base class of the maskings that divide the cells into square blocks.

    Args:
        block: Cells per side of a block; blocks at the lower and right border of the image may be smaller.
        **kwargs: See :class:`Masking`.

    Raises:
        UserError: If ``block`` is not a whole number of 1 or more.
    """

    def __init__(self, block: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(block, int) or block < 1:
            raise UserError(f'{type(self).__name__}: block={block!r} must be a whole number of cells, 1 or more.')
        self.block = block


@MODELS.register_module()
class GridMasking(BlockedMasking):
    """Masking that hides whole blocks of cells, each with the same probability (Pixio, arXiv:2512.15715).

    Where the number of hidden cells is not a multiple of a block, one block is hidden in part.

    Args:
        block: Cells per side of a block.
        **kwargs: See :class:`Masking`.
    """

    def __init__(self, block: int = 4, **kwargs: Any) -> None:
        super().__init__(block, **kwargs)

    def score(self, imgs: Tensor, h: int, w: int) -> Tensor:
        """Draw a score for each block, and a far smaller one for each of its cells: (B, h, w)."""
        b, n = len(imgs), self.block
        blocks = torch.rand(b, 1, -(-h // n), -(-w // n), device=imgs.device)
        score = blocks.repeat_interleave(n, -2).repeat_interleave(n, -1)[:, 0, :h, :w]
        return score + 1e-4 * torch.rand_like(score) / (h * w)


@MODELS.register_module()
class UniformMasking(BlockedMasking):
    """Masking that keeps as many cells of every block visible (UM-MAE, arXiv:2205.10063, section 3.2).

    With the default blocks of 2 x 2 cells and ``ratio=0.75``, one cell of each block is visible. A higher ratio is
    UM-MAE's secondary masking, which hides some of these: 0.8125 hides a quarter of them.

    Args:
        balanced: Draw the last cell of each block to be hidden without replacement, from a pool that holds every place
            of a block equally often, about two for each block of an image. All places are then about equally frequent
            in one image, as in the official code. If False, each block draws independently.
        **kwargs: ``block``, and see :class:`Masking`.
    """

    def __init__(self, balanced: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.balanced = balanced

    def score(self, imgs: Tensor, h: int, w: int) -> Tensor:
        """Rank the cells of each block at random, with ties between blocks broken at random: (B, h, w)."""
        b, n = len(imgs), self.block
        rows, columns = -(-h // n), -(-w // n)
        chance = torch.rand(b, rows, columns, n * n, device=imgs.device)
        if self.balanced:
            chance = chance.scatter(3, self._draw_places(imgs, rows, columns).unsqueeze(3), -1)
        rank = (chance.unsqueeze(-1) > chance.unsqueeze(-2)).sum(-1).unflatten(3, (n, n)).transpose(2, 3)
        score = rank.reshape(b, rows * n, columns * n)[:, :h, :w]
        return score + torch.rand(b, h, w, device=imgs.device)

    def _draw_places(self, imgs: Tensor, rows: int, columns: int) -> Tensor:
        """Draw the place (B, rows, columns) of each block that is hidden last, without replacement."""
        blocks, places = rows * columns, self.block**2
        pool = -(-2 * blocks // places) * places
        order = torch.rand(len(imgs), pool, device=imgs.device).argsort(1)[:, :blocks]
        return (order % places).unflatten(1, (rows, columns))
