"""Geometry of masks: the one place that upsamples, hides, gathers and scatters.

A mask is a bool tensor (B, 1, h, w), one cell per ``unit`` pixels; True is hidden. Every image of a batch hides the
same number of cells, so that gathering is by index, without boolean indexing and without waiting for the device.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pixel_unshuffle

from mae_toolkit.errors import UserError


class Cells(NamedTuple):
    """What is hidden and what is predicted.

    Attributes:
        mask: (B, 1, h, w) bool, True = hidden.
        predict: (B, 1, h, w) bool, True = decoded and compared.
        num_visible: Visible cells per image.
        num_predict: Predicted cells per image, or None if they are not as many in every image.
    """

    mask: Tensor
    predict: Tensor
    num_visible: int
    num_predict: int | None


def grid_of(imgs, unit):
    """Rows and columns of cells of ``unit`` pixels in images (B, C, H, W).

    Raises:
        UserError: If the unit does not divide the image size.
    """
    height, width = imgs.shape[-2:]
    if height % unit or width % unit:
        best = tuple(max(unit, round(size / unit) * unit) for size in (height, width))
        raise UserError(
            f'An image of {height} x {width} pixels is not divisible by the unit of {unit} pixels; '
            f'resize or crop to {best[0]} x {best[1]}.'
        )
    return height // unit, width // unit


def upsample(mask, size):
    """Repeat the cells of a mask (B, 1, h, w) to (B, 1, *size), whole multiples of (h, w)."""
    rows, cols = size[0] // mask.shape[-2], size[1] // mask.shape[-1]
    if (rows * mask.shape[-2], cols * mask.shape[-1]) != tuple(size):
        raise UserError(f'A mask of {mask.shape[-2]} x {mask.shape[-1]} cells does not divide a map of {tuple(size)}.')
    return mask.repeat_interleave(rows, -2).repeat_interleave(cols, -1)


def hide(x, mask):
    """Set maps or images (B, C, H, W) to zero where the mask is True; ``mask=None`` hides nothing."""
    return x if mask is None else x.masked_fill(upsample(mask, x.shape[-2:]), 0)


def count_visible(mask):
    """Number of visible cells per image. Waits for the device: for masks that come from outside.

    Raises:
        UserError: If two images hide different numbers of cells, or all are hidden.
    """
    counts = (~mask).flatten(1).sum(1).tolist()
    cells = mask[0].numel()
    for i, count in enumerate(counts):
        if count != counts[0]:
            raise UserError(
                f'The mask leaves {counts[0]} cells of image 0 visible, but {count} of image {i}; '
                'every image of a batch must hide the same number.'
            )
    if counts[0] == 0:
        raise UserError(f'The mask hides all {cells} cells; leave at least one visible.')
    return counts[0]


def visible_ids(mask, size, num_visible=None):
    """Indices (B, V) of the visible cells on a map of the given size, in raster order; None for ``mask=None``.

    Args:
        mask (Tensor | None): (B, 1, h, w), h and w dividing ``size``.
        size (tuple[int, int]): Rows and columns of the map.
        num_visible (int | None): Visible cells of the mask per image, where it is known. If None, they are counted.
    """
    if mask is None:
        return None
    num_visible = count_visible(mask) if num_visible is None else num_visible
    scale = size[0] * size[1] // mask[0].numel()
    order = upsample(mask, size).flatten(1).byte().argsort(dim=1, stable=True)  # (B, L), the visible first
    return order[:, : num_visible * scale]


def gather_tokens(x, ids):
    """Tokens (B, V, C) of x (B, L, C) at ids (B, V); ``ids=None`` takes all."""
    return x if ids is None else x.gather(1, ids.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


def scatter_tokens(x, ids, length):
    """Put tokens x (B, V, C) at ids (B, V) of zeros (B, L, C); ``ids=None`` means that x is complete."""
    if ids is None:
        return x
    return x.new_zeros(x.shape[0], length, x.shape[-1]).scatter(1, ids.unsqueeze(-1).expand_as(x), x)


class Packing(NamedTuple):
    """Which cells of a batch are visible, for maps that hold these alone.

    A packed map (B, C, V*u, u) has the V visible cells of each image, u x u positions each, one below the other. What
    works within a cell (convolutions whose kernel is their stride, norms over channels, layers per position) takes it
    for a map of that size; its sums over space are sums over what is visible.

    Attributes:
        ids: (B, V) indices of the visible cells in raster order.
        grid: Rows and columns of cells (h, w).
    """

    ids: Tensor
    grid: tuple[int, int]

    def positions(self, size):
        """Rows and columns, each (B, V*u*u), of the packed positions on a map of this size."""
        unit = size[0] // self.grid[0]
        inside = torch.arange(unit, device=self.ids.device)
        y = (self.ids // self.grid[1] * unit)[..., None, None] + inside[:, None]  # (B, V, u, 1)
        x = (self.ids % self.grid[1] * unit)[..., None, None] + inside  # (B, V, 1, u)
        return tuple(axis.flatten(1) for axis in torch.broadcast_tensors(y, x))


def packing_of(mask, num_visible=None, grid=None):
    """The :class:`Packing` of a mask (B, 1, h, w), or None for None.

    Args:
        mask (Tensor | None): (B, 1, h, w).
        num_visible (int | None): Visible cells of the mask per image, where it is known.
        grid (tuple[int, int] | None): Rows and columns of the packed cells, if they are smaller than the mask's.
    """
    if mask is None:
        return None
    grid = tuple(grid or mask.shape[-2:])
    return Packing(visible_ids(mask, grid, num_visible), grid)


def pack(x, packing):
    """Visible cells (B, C, V*u, u) of a map (B, C, h*u, w*u), channels last; ``packing=None`` takes all as it is."""
    if packing is None:
        return x
    rows = x.permute(0, 2, 3, 1).reshape(-1, x.shape[3] // packing.grid[1] * x.shape[1])  # (B h u w, u C)
    unit = x.shape[2] // packing.grid[0]
    picked = pick_rows(rows, _row_ids(packing, unit))  # (B V u, u C)
    return picked.view(x.shape[0], -1, unit, x.shape[1]).permute(0, 3, 1, 2)


def unpack(x, packing, fill=0.0):
    """The map (B, C, h*u, w*u), channels last, of packed cells (B, C, V*u, u); ``fill`` where hidden."""
    if packing is None:
        return x
    (h, w), (b, c, _, unit) = packing.grid, x.shape
    rows = x.permute(0, 2, 3, 1).reshape(-1, unit * c)  # (B V u, u C)
    placed = place_rows(rows, _row_ids(packing, unit), b * h * unit * w, fill)  # (B h u w, u C)
    return placed.view(b, h * unit, w * unit, c).permute(0, 3, 1, 2)


def _row_ids(packing, unit):
    """Where the rows (B, V, u) of the visible cells lie among all rows (B, h, u, w) of cells: (B*V*u,)."""
    h, w = packing.grid
    images = torch.arange(len(packing.ids), device=packing.ids.device).view(-1, 1, 1)
    rows = torch.arange(unit, device=packing.ids.device)
    y, x = (packing.ids // w).unsqueeze(-1), (packing.ids % w).unsqueeze(-1)  # (B, V, 1)
    return (((images * h + y) * unit + rows) * w + x).flatten()


def pick_rows(x, index):
    """Rows (N, C) of x (L, C) at distinct indices (N,)."""
    return _Pick.apply(x, index)


def place_rows(x, index, length, fill=0.0):
    """Rows x (N, C) at distinct indices (N,) of a matrix (L, C) that is ``fill`` elsewhere."""
    return _Place.apply(x, index, length, fill)


class _Pick(torch.autograd.Function):
    """Rows of a matrix at distinct indices. As they are distinct, the gradient is placed, where torch would add."""

    @staticmethod
    def forward(ctx, x, index):
        ctx.save_for_backward(index)
        ctx.length = len(x)
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx, grad):
        return _placed(grad, ctx.saved_tensors[0], ctx.length), None


class _Place(torch.autograd.Function):
    """The inverse: rows at distinct indices of a matrix that is filled with one number."""

    @staticmethod
    def forward(ctx, x, index, length, fill):
        ctx.save_for_backward(index)
        return _placed(x, index, length, fill)

    @staticmethod
    def backward(ctx, grad):
        return grad.index_select(0, ctx.saved_tensors[0]), None, None, None


def _placed(x, index, length, fill=0.0):
    # Not by index_copy_: torch 2.11 compiles it in an autograd.Function with gradients of zero (pytorch#180642).
    matrix = x.new_full((length, x.shape[1]), fill)
    matrix[index] = x
    return matrix


def to_tokens(x):
    """(B, C, h, w) -> (B, L, C) in raster order."""
    return x.flatten(2).mT


def fold(x, factor):
    """(B, C, h*f, w*f) -> (B, C*f*f, h, w), as ``pixel_unshuffle``; a factor of 1 leaves the map as it is."""
    return x if factor == 1 else pixel_unshuffle(x, factor)


def to_map(x, size):
    """(B, L, C) in raster order -> (B, C, *size)."""
    return x.mT.unflatten(2, size)


def some_cells(mask):
    """Return a mask from outside in which some cell is True. Waits for the device.

    Raises:
        UserError: If none is: there would be nothing to predict.
    """
    if not mask.any():
        raise UserError(f'The mask is False in all {mask[0].numel()} cells: mark those to be predicted by True.')
    return mask


def check_cells(mask, imgs, unit):
    """Refuse a mask that does not belong to images (B, C, H, W), or whose cells an encoder cannot leave out.

    Args:
        mask (Tensor): (B, 1, h, w) bool; its cells are square and have a multiple of ``unit`` pixels a side.
        imgs (Tensor), unit (int): The images and the encoder's ``mask_unit``.

    Raises:
        UserError: If it is not like this.
    """
    if not isinstance(mask, torch.Tensor) or mask.dtype is not torch.bool:
        raise UserError(f'A mask is a bool tensor (True = hidden), not {getattr(mask, "dtype", repr(mask))}.')
    (b, _, height, width), shape = imgs.shape, tuple(mask.shape)
    if len(shape) != 4 or shape[:2] != (b, 1) or not all(shape):
        raise UserError(f'The mask has the shape {shape}; for {b} images it is ({b}, 1, h, w).')
    side = height // shape[2]
    if (side * shape[2], side * shape[3]) != (height, width) or side % unit:
        raise UserError(
            f'A mask of {shape[2]} x {shape[3]} cells does not fit images of {height} x {width} pixels: its cells are '
            f'squares of {unit} pixels or a multiple of it.'
        )


def mask_like(mask, imgs, unit):
    """Check a mask that comes from outside against images (B, C, H, W) and return it.

    Raises:
        UserError: If it is no bool tensor (B, 1, H/unit, W/unit).
    """
    expected = (imgs.shape[0], 1, *grid_of(imgs, unit))
    if not isinstance(mask, torch.Tensor) or mask.dtype is not torch.bool:
        raise UserError(f'A mask is a bool tensor (True = hidden), not {getattr(mask, "dtype", repr(mask))}.')
    if tuple(mask.shape) != expected:
        raise UserError(f'The mask has the shape {tuple(mask.shape)}; these images and unit {unit} need {expected}.')
    return mask
