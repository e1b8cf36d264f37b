"""Masks that follow a grid."""

import torch

from mae_toolkit.errors import UserError
from mae_toolkit.models.maskings.masking import Masking
from mae_toolkit.registry import MODELS


class _Blocked(Masking):
    """Base of the maskings that see the cells in square blocks.

    Args:
        block (int): Cells per side of a block; blocks at the lower and right border may be smaller.
        **kwargs: As of :class:`Masking`.
    """

    def __init__(self, block=2, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(block, int) or block < 1:
            raise UserError(f'{type(self).__name__}: block={block!r} is no number of cells, 1 or more.')
        self.block = block


@MODELS.register_module()
class GridMasking(_Blocked):
    """Blocks of cells are hidden as a whole, each with the same chance (Pixio, arXiv:2512.15715).

    Where the number of hidden cells is no multiple of a block, one block is hidden in part.
    """

    def __init__(self, block=4, **kwargs):
        super().__init__(block, **kwargs)

    def score(self, imgs, h, w):
        """Scores (B, h, w): of a block, less chance within it."""
        b, n = len(imgs), self.block
        blocks = torch.rand(b, 1, -(-h // n), -(-w // n), device=imgs.device)
        score = blocks.repeat_interleave(n, -2).repeat_interleave(n, -1)[:, 0, :h, :w]
        return score + 1e-4 * torch.rand_like(score) / (h * w)


@MODELS.register_module()
class UniformMasking(_Blocked):
    """As many cells of every block stay visible (UM-MAE, arXiv:2205.10063, section 3.2).

    At ratio 0.75 one of each 2 x 2 cells is visible. A higher ratio is UM-MAE's secondary masking: it hides some of
    those, 0.8125 a quarter of them.

    Args:
        balanced (bool): Draw the cell that is hidden last in each block without replacement, from a pool that has
            every place of a block as often, and some two for each block of an image: all places come about as often
            in one image, as in the official code. If False, each block draws for itself.
        block (int), **kwargs: As of the other maskings.
    """

    def __init__(self, balanced=True, **kwargs):
        super().__init__(**kwargs)
        self.balanced = balanced

    def score(self, imgs, h, w):
        """Scores (B, h, w): the rank of a cell within its block, and chance."""
        b, n = len(imgs), self.block
        rows, columns = -(-h // n), -(-w // n)
        chance = torch.rand(b, rows, columns, n * n, device=imgs.device)
        if self.balanced:
            chance = chance.scatter(3, self._drawn(imgs, rows, columns).unsqueeze(3), -1)
        rank = (chance.unsqueeze(-1) > chance.unsqueeze(-2)).sum(-1).unflatten(3, (n, n)).transpose(2, 3)
        score = rank.reshape(b, rows * n, columns * n)[:, :h, :w]
        return score + torch.rand(b, h, w, device=imgs.device)

    def _drawn(self, imgs, rows, columns):
        """The place (B, rows, columns) that is hidden last in each block, drawn without replacement."""
        blocks, places = rows * columns, self.block**2
        pool = -(-2 * blocks // places) * places
        order = torch.rand(len(imgs), pool, device=imgs.device).argsort(1)[:, :blocks]
        return (order % places).unflatten(1, (rows, columns))
