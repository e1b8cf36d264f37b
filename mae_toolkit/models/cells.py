"""The cells of a batch: which are hidden, which are predicted, and maps that hold the visible ones alone."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mae_toolkit.models.mask_ops import count_visible


class Packing(NamedTuple):
    """The cells that a packed map holds.

    A packed map (B, C, V*u, u) stacks the V cells of each image, u x u positions each. What works within
    a cell (a convolution whose kernel is its stride, a norm over channels, a layer per position) takes it for a map of
    that size; sums over its positions are sums over the visible part of the image. With u = 1 its positions are the
    visible tokens of a transformer.

    Example: of 2 x 3 cells the second and the sixth are visible. Then ``ids`` is ``[[1, 5]]`` and ``grid`` is
    ``(2, 3)``; a map (1, C, 8, 12), of 4 x 4 positions per cell, is packed to (1, C, 8, 4).

    Attributes:
        ids: Indices (B, V) of the cells, counted in raster order.
        grid: Rows and columns of all cells (h, w).
    """

    ids: Tensor
    grid: tuple[int, int]

    def positions(self, size: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return rows and columns, each (B, V*u*u), of the packed positions on a map (h*u, w*u)."""
        unit = size[0] // self.grid[0]
        inside = torch.arange(unit, device=self.ids.device)
        y = (self.ids // self.grid[1] * unit)[..., None, None] + inside[:, None]  # (B, V, u, 1)
        x = (self.ids % self.grid[1] * unit)[..., None, None] + inside  # (B, V, 1, u)
        y, x = torch.broadcast_tensors(y, x)
        return y.flatten(1), x.flatten(1)

    def indices(self, size: Sequence[int]) -> Tensor:
        """Return the indices (B, V*u*u), counted in raster order, of the packed positions on a map (h*u, w*u)."""
        if tuple(size) == self.grid:
            return self.ids
        y, x = self.positions(size)
        return y * size[1] + x

    def refine(self, grid: Sequence[int]) -> 'Packing':
        """Return the packing that covers the same part of the image with smaller cells, ``grid`` rows and columns."""
        return Packing(self.indices(grid), (grid[0], grid[1]))


class Cells:
    """The cells of a batch that are hidden from the encoder, and those that are predicted.

    Every image hides the same number of cells, so that visible cells are gathered by index, without waiting for the
    device. The indices are sorted once, when an encoder or a decoder asks for them first.

    Args:
        mask: (B, 1, h, w) bool, True = hidden.
        predict: (B, 1, h, w) bool, True = decoded and compared; the hidden cells if None.
        num_visible: Visible cells per image, if known. If None, they are counted when they are needed, which
            waits for the device.
        num_predict: Predicted cells per image, if their number is the same in every image; not needed if the hidden
            cells are predicted.
    """

    def __init__(
        self,
        mask: Tensor,
        predict: Tensor | None = None,
        num_visible: int | None = None,
        num_predict: int | None = None,
    ) -> None:
        self.mask = mask
        self.predict = mask if predict is None else predict
        self._predicts_hidden = predict is None or predict is mask
        self._num_visible, self._num_predict = num_visible, num_predict
        self._order: Tensor | None = None  # (B, L) indices of all cells, the visible ones first
        self._predicted: Tensor | None = None

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of cells (h, w)."""
        return self.mask.shape[-2], self.mask.shape[-1]

    @property
    def num_cells(self) -> int:
        """Cells per image, hidden or not."""
        return self.mask.shape[-2] * self.mask.shape[-1]

    @property
    def num_visible(self) -> int:
        """Visible cells per image.

        Raises:
            UserError: If they have to be counted, and two images differ or nothing is visible.
        """
        if self._num_visible is None:
            self._num_visible = count_visible(self.mask)
        return self._num_visible

    @property
    def num_predict(self) -> int | None:
        """Predicted cells per image; None if their number may differ between images."""
        return self.num_cells - self.num_visible if self._predicts_hidden else self._num_predict

    def visible(self) -> Packing:
        """Return the packing of the visible cells.

        Raises:
            UserError: See :attr:`num_visible`.
        """
        return Packing(self._sorted()[:, : self.num_visible], self.grid)

    def predicted(self) -> Packing | None:
        """Return the packing of the predicted cells; None, which packs everything, if their number is not known."""
        if self._predicts_hidden:
            return Packing(self._sorted()[:, self.num_visible :], self.grid)
        if self._num_predict is None:
            return None
        if self._predicted is None:
            self._predicted = _sort_cells(~self.predict)[:, : self._num_predict]
        return Packing(self._predicted, self.grid)

    def visible_ids(self, size: Sequence[int]) -> Tensor:
        """Return the indices (B, N) of the visible positions on a map (h*u, w*u), in raster order."""
        ids = self.visible().indices(size)
        return ids if tuple(size) == self.grid else ids.sort(dim=1).values

    def _sorted(self) -> Tensor:
        if self._order is None:
            self._order = _sort_cells(self.mask)
        return self._order


def _sort_cells(mask: Tensor) -> Tensor:
    """Return the indices (B, L) of the cells of a mask (B, 1, h, w), first those where it is False, in raster order."""
    return mask.flatten(1).byte().argsort(dim=1, stable=True)


def pack(x: Tensor, packing: Packing | None) -> Tensor:
    """Take the cells of a packing out of a map.

    Args:
        x: (B, C, h*u, w*u).
        packing: The cells; None takes the map as it is.

    Returns:
        (B, C, V*u, u), channels last.
    """
    if packing is None:
        return x
    rows = x.permute(0, 2, 3, 1).reshape(-1, x.shape[3] // packing.grid[1] * x.shape[1])  # (B h u w, u C)
    unit = x.shape[2] // packing.grid[0]
    picked = pick_rows(rows, _row_ids(packing, unit))  # (B V u, u C)
    return picked.view(x.shape[0], -1, unit, x.shape[1]).permute(0, 3, 1, 2)


def unpack(x: Tensor, packing: Packing | None, fill: float = 0.0) -> Tensor:
    """Put packed cells back in their places: the inverse of :func:`pack`.

    Args:
        x: (B, C, V*u, u).
        packing: The cells; None takes the map as it is.
        fill: Value of all other cells.

    Returns:
        (B, C, h*u, w*u), channels last.
    """
    if packing is None:
        return x
    (h, w), (b, c, _, unit) = packing.grid, x.shape
    rows = x.permute(0, 2, 3, 1).reshape(-1, unit * c)  # (B V u, u C)
    placed = place_rows(rows, _row_ids(packing, unit), b * h * unit * w, fill)  # (B h u w, u C)
    return placed.view(b, h * unit, w * unit, c).permute(0, 3, 1, 2)


def _row_ids(packing: Packing, unit: int) -> Tensor:
    """Return where the rows (B, V, u) of the packed cells lie among all rows (B, h, u, w) of cells: (B*V*u,)."""
    h, w = packing.grid
    images = torch.arange(len(packing.ids), device=packing.ids.device).view(-1, 1, 1)
    rows = torch.arange(unit, device=packing.ids.device)
    y, x = (packing.ids // w).unsqueeze(-1), (packing.ids % w).unsqueeze(-1)  # (B, V, 1)
    return (((images * h + y) * unit + rows) * w + x).flatten()


def pick_rows(x: Tensor, index: Tensor) -> Tensor:
    """Take the rows (N, C) of a matrix (L, C) at distinct indices (N,)."""
    return _Pick.apply(x, index)


def place_rows(x: Tensor, index: Tensor, length: int, fill: float = 0.0) -> Tensor:
    """Put rows (N, C) at distinct indices (N,) of a matrix (length, C) that holds ``fill`` elsewhere."""
    return _Place.apply(x, index, length, fill)


class _Pick(torch.autograd.Function):
    """Rows of a matrix at distinct indices, whose gradient is written to its place; torch would add it up."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.length = len(x)
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _placed(grad, ctx.saved_tensors[0], ctx.length), None


class _Place(torch.autograd.Function):
    """The inverse of :class:`_Pick`: rows put at distinct indices of a matrix that is filled with one number."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, length: int, fill: float) -> Tensor:
        ctx.save_for_backward(index)
        return _placed(x, index, length, fill)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        return grad.index_select(0, ctx.saved_tensors[0]), None, None, None


def _placed(x: Tensor, index: Tensor, length: int, fill: float = 0.0) -> Tensor:
    # Not by index_copy_: torch 2.11 compiles it in an autograd.Function with gradients of zero (pytorch#180642).
    matrix = x.new_full((length, x.shape[1]), fill)
    matrix[index] = x
    return matrix
