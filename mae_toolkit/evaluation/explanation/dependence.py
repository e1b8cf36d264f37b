"""Which visible cells the prediction at a hidden cell depends on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.modes import evaluating
from mae_toolkit.models import MaskedAutoencoder

DRAWS = 8


@dataclass(frozen=True, eq=False)
class Dependence:
    """How much the prediction at a hidden cell changes with each cell of the image.

    Attributes:
        gradient: (h, w) float64, the norm of the gradient of the prediction with respect to the pixels of each cell.
            Zero where hidden: a model that sees nothing there cannot depend on it.
        hidden: (h, w) bool.
        cell: Row and column of the cell whose prediction it is.
        unit: Pixels per cell.
    """

    gradient: np.ndarray
    hidden: np.ndarray
    cell: tuple[int, int]
    unit: int

    @property
    def share(self) -> np.ndarray:
        """Return the share of each cell in the sum of the gradients, (h, w)."""
        return self.gradient / self.gradient.sum()

    def mean_distance(self, equally: bool = False) -> float:
        """Return the mean distance from the cell to those it depends on, in pixels, weighted by their shares.

        Args:
            equally: Weight all visible cells equally instead.
        """
        rows, columns = np.indices(self.hidden.shape)
        distance = np.hypot(rows - self.cell[0], columns - self.cell[1]) * self.unit
        return float(distance[~self.hidden].mean() if equally else (distance * self.share).sum())

    def share_of_neighbors(self) -> float:
        """Return the share of the eight cells around, as far as they are visible."""
        rows, columns = (slice(max(0, n - 1), n + 2) for n in self.cell)
        return float(self.share[rows, columns].sum())


def measure_dependence(
    model: MaskedAutoencoder,
    imgs: Tensor,
    mask: Tensor,
    cell: tuple[int, int],
    objective: str | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Dependence:
    """Measure which visible cells the prediction at a hidden cell depends on, by gradients to the pixels.

    The values that are predicted at the cell are summed with random signs and differentiated by the pixels. The squares
    of such gradients, averaged over draws and summed over the pixels of a cell, estimate the squared norm of all
    derivatives of the prediction by the cell; its root is returned.

    Args:
        model: The model.
        imgs: One normalized image (1, C, H, W), whose sides are multiples of the unit.
        mask: (1, 1, h, w) bool, True = hidden.
        cell: Row and column of a hidden cell.
        objective: Whose prediction it is; the first if None.
        draws: Draws of the signs; the more, the more exact.
        seed: Seed of the signs.

    Raises:
        UserError: If the cell is visible or outside, or the prediction does not depend on the image.
    """
    h, w = mask.shape[-2:]
    if not (0 <= cell[0] < h and 0 <= cell[1] < w) or not mask[0, 0, cell[0], cell[1]]:
        raise UserError(f'Cell {cell} of {h} x {w} is not hidden: what is predicted there is not used.')
    if draws < 1:
        raise UserError(f'draws={draws} must be 1 or more.')
    unit = imgs.shape[-1] // w
    generator = torch.Generator().manual_seed(seed)
    squares = torch.zeros_like(imgs, dtype=torch.float64)
    with evaluating(model), torch.enable_grad():
        x = imgs.detach().clone().requires_grad_()
        predictions, _ = model(x, mask=mask, mode='predict')
        prediction = predictions[objective or next(iter(predictions))]  # (1, T, H/t, W/t)
        step = prediction.shape[-1] // w
        rows, columns = (slice(n * step, (n + 1) * step) for n in cell)
        values = prediction[0, :, rows, columns]
        for draw in range(draws):
            signs = torch.randint(0, 2, values.shape, generator=generator).mul(2).sub(1).to(values)
            (gradient,) = torch.autograd.grad((values * signs).sum(), x, retain_graph=draw < draws - 1)
            squares += gradient.double().square()
    total = squares.sum(1, keepdim=True).unflatten(3, (w, unit)).unflatten(2, (h, unit)).sum((3, 5)) / draws
    norm = total[0, 0].sqrt().cpu().numpy()
    if not norm.sum() > 0 or not np.isfinite(norm).all():
        raise UserError('The prediction does not depend on the visible cells: its gradient is zero or not finite.')
    return Dependence(norm, mask[0, 0].cpu().numpy(), cell, unit)


def find_mask(hidden: Tensor, unit: int) -> Tensor:
    """Find the mask (B, 1, h, w) of cells from the pixels (B, 1, H, W) that are hidden."""
    return max_pool2d(hidden.float(), unit, ceil_mode=True) > 0


def hide_cell(mask: Tensor, cell: tuple[int, int]) -> Tensor:
    """Hide a cell of a mask (1, 1, h, w); if it was visible, the hidden cell that is farthest from it becomes visible.

    So as many cells are hidden as before, which is what an encoder may rely on.
    """
    if mask[0, 0, cell[0], cell[1]]:
        return mask
    rows, columns = torch.nonzero(mask[0, 0], as_tuple=True)
    farthest = ((rows - cell[0]).square() + (columns - cell[1]).square()).argmax()
    changed = mask.clone()
    changed[0, 0, rows[farthest], columns[farthest]] = False
    changed[0, 0, cell[0], cell[1]] = True
    return changed
