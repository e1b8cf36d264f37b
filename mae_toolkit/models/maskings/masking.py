"""Base class of the maskings: a subclass scores cells, this class hides the highest scores."""

from collections.abc import Callable, Mapping
from math import ceil
from typing import ClassVar

import torch
from torch import Tensor, nn

from mae_toolkit.errors import UserError
from mae_toolkit.models.cells import Cells
from mae_toolkit.models.mask_ops import check_mask, count_visible, find_grid

# How the published methods round the number of hidden cells of n at ratio r.
COUNTS: dict[str, Callable[[int, float], int]] = {
    'int_visible': lambda n, r: n - int(n * (1 - r)),  # MAE, Hiera, FCMAE, GreenMIM
    'round_visible': lambda n, r: n - round(n * (1 - r)),  # SparK
    'ceil_hidden': lambda n, r: ceil(n * r),  # SimMIM
    'int_hidden': lambda n, r: int(n * r),  # MixMIM
}


class Masking(nn.Module):
    """Base class of the maskings, which hide in every image the same number of cells: those with the highest scores.

    A cell is a square of ``unit`` x ``unit`` pixels; an image of H x W pixels has h x w = H/unit x W/unit cells. A
    subclass writes :meth:`score`. With ``ratio=0.75``, 147 of the 14 x 14 cells of an image of 224 pixels are hidden.

    Args:
        ratio: Fraction of the cells that is hidden, between 0 and 1.
        unit: Pixels per side of a cell, a multiple of the encoder's ``mask_unit``, which is the default.
        count: Rounding of the number of hidden cells, a key of ``COUNTS``.
        shared: Hide the same cells in every image of a batch.
        predict_ratio: Fraction of all cells, at most ``ratio``, that is decoded and compared, drawn among the hidden
            cells (CrossMAE, arXiv:2401.14391, section 3.3); all hidden cells if None.

    Raises:
        UserError: If an argument is out of its range.
    """

    takes: ClassVar[Mapping[str, str]] = dict(unit='unit')

    def __init__(
        self,
        ratio: float = 0.75,
        unit: int = 16,
        count: str = 'int_visible',
        shared: bool = False,
        predict_ratio: float | None = None,
    ) -> None:
        super().__init__()
        if not 0 < ratio < 1:
            raise UserError(f'ratio={ratio} must be between 0 and 1: it is the fraction of the cells that is hidden.')
        if not isinstance(unit, int) or unit < 1:
            raise UserError(f'unit={unit!r} must be a whole number of pixels, 1 or more.')
        if count not in COUNTS:
            raise UserError(f'count={count!r} must be one of {", ".join(COUNTS)}.')
        if predict_ratio is not None and not 0 < predict_ratio <= ratio:
            raise UserError(f'predict_ratio={predict_ratio} must be above 0 and at most ratio={ratio}.')
        self.ratio, self.unit, self.count, self.shared = ratio, unit, count, shared
        self.predict_ratio = predict_ratio

    def score(self, imgs: Tensor, h: int, w: int) -> Tensor:
        """Score the cells of images; the highest scores are hidden first.

        Args:
            imgs: (B, C, H, W).
            h: Rows of cells.
            w: Columns of cells.

        Returns:
            Scores (B, h, w).
        """
        raise NotImplementedError

    def forward(self, imgs: Tensor) -> Tensor:
        """Draw a mask (B, 1, h, w), True = hidden, for images (B, C, H, W)."""
        h, w = find_grid(imgs, self.unit)
        mask = self.hide_highest(self.score(imgs[:1] if self.shared else imgs, h, w))
        return mask.expand(imgs.shape[0], -1, -1, -1)

    def hide_highest(self, score: Tensor) -> Tensor:
        """Hide the cells of the highest scores (B, h, w): a mask (B, 1, h, w)."""
        flat = score.flatten(1)  # (B, L)
        hidden = flat.topk(self.count_hidden(flat.shape[1]), dim=1, sorted=False).indices
        mask = torch.zeros_like(flat, dtype=torch.bool).scatter(1, hidden, True)
        return mask.view(score.shape).unsqueeze(1)

    def count_hidden(self, num_cells: int) -> int:
        """Count how many of the cells of an image are hidden.

        Raises:
            UserError: If no cell would be hidden, or none visible.
        """
        hidden = COUNTS[self.count](num_cells, self.ratio)
        if not 0 < hidden < num_cells:
            raise UserError(
                f'Ratio {self.ratio} hides {hidden} of {num_cells} cells; some must be hidden and some visible: '
                'use larger images, smaller units or another ratio.'
            )
        return hidden

    def count_predicted(self, num_cells: int) -> int:
        """Count how many of the hidden cells of an image are predicted.

        Raises:
            UserError: If no cell would be predicted, or more cells than are hidden.
        """
        hidden = self.count_hidden(num_cells)
        if self.predict_ratio is None:
            return hidden
        predicted = hidden - int(num_cells * (self.ratio - self.predict_ratio))
        if not 1 <= predicted <= hidden:
            raise UserError(
                f'predict_ratio={self.predict_ratio} predicts {predicted} of {hidden} hidden cells of {num_cells}: '
                'it must be at least one of them and at most all; a schedule must not take the ratio below it.'
            )
        return predicted

    def draw_predicted(self, mask: Tensor) -> Tensor:
        """Draw the cells that are predicted among those that a mask (B, 1, h, w) hides: all, or ``predict_ratio``."""
        if self.predict_ratio is None:
            return mask
        chance = torch.rand(mask.shape, device=mask.device).masked_fill(~mask, -1).flatten(1)  # (B, L)
        chosen = chance.topk(self.count_predicted(mask[0].numel()), dim=1, sorted=False).indices
        return torch.zeros_like(chance, dtype=torch.bool).scatter(1, chosen, True).view(mask.shape)

    def draw_cells(
        self, imgs: Tensor, mask: Tensor | None = None, predict: Tensor | None = None, predict_all: bool = False
    ) -> Cells:
        """Draw which cells are hidden and which of them are predicted, or check the given ones.

        Args:
            imgs: (B, C, H, W).
            mask: (B, 1, h, w) bool, True = hidden; drawn if None.
            predict: (B, 1, h, w) bool, True = predicted. If None, these are the hidden cells or, where the mask is
                drawn, the share ``predict_ratio``.
            predict_all: Predict every hidden cell, whatever ``predict_ratio`` is.

        Raises:
            UserError: If a given mask does not fit the images.
        """
        drawn = mask is None
        mask = self(imgs) if mask is None else check_mask(mask, imgs, self.unit)
        num_cells = mask[0].numel()
        num_visible = num_cells - self.count_hidden(num_cells) if drawn else count_visible(mask)
        if predict is not None:
            return Cells(mask, check_mask(predict, imgs, self.unit), num_visible)
        if predict_all or not drawn:
            return Cells(mask, num_visible=num_visible)
        return Cells(mask, self.draw_predicted(mask), num_visible, self.count_predicted(num_cells))
