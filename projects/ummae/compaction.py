"""Push visible cells together, and apart again, where one of each 2 x 2 cells is visible."""

import torch
from torch import Tensor

from mae_toolkit.errors import UserError
from mae_toolkit.models.mask_ops import hide


def compact(x: Tensor, mask: Tensor) -> Tensor:
    """Push the visible cells together to a map of half the size: (B, C, H, W) -> (B, C, H/2, W/2).

    Args:
        x: (B, C, H, W).
        mask: (B, 1, h, w) bool that leaves one of each 2 x 2 cells visible.
    """
    unit = x.shape[2] // mask.shape[2]
    cells = hide(x, mask).unflatten(3, (-1, 2, unit)).unflatten(2, (-1, 2, unit))  # (B, C, h/2, 2, u, w/2, 2, u)
    return cells.sum((3, 6)).flatten(4, 5).flatten(2, 3)


def spread(x: Tensor, mask: Tensor) -> Tensor:
    """Put visible cells back in their places, zero where hidden: (B, C, H/2, W/2) -> (B, C, H, W).

    This is the inverse of :func:`compact`.
    """
    unit = 2 * x.shape[2] // mask.shape[2]
    cells = x.unflatten(3, (-1, 1, unit)).unflatten(2, (-1, 1, unit))
    cells = cells.expand(-1, -1, -1, 2, -1, -1, 2, -1)
    return hide(cells.flatten(5, 7).flatten(2, 4), mask)


def check_rows(mask: Tensor) -> None:
    """Refuse a mask with an odd number of rows or columns."""
    h, w = mask.shape[-2:]
    if h % 2 or w % 2:
        raise UserError(
            f'{h} x {w} cells cannot be divided into blocks of 2 x 2: use images with an even number of cells a side.'
        )


def check_blocks(mask: Tensor) -> None:
    """Refuse a mask from outside that does not leave one of each 2 x 2 cells visible. Waits for the device."""
    check_rows(mask)
    counts = (~mask).float().unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).sum((3, 5))
    if not torch.equal(counts, torch.ones_like(counts)):
        raise UserError(
            f'The mask leaves {int(counts.min())} to {int(counts.max())} of each 2 x 2 cells visible; '
            'UM-MAE needs one of each, as UniformMasking draws them at ratio=0.75.'
        )
