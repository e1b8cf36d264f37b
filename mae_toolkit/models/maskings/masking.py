"""Base class of the maskings: a subclass scores cells, this class hides the highest scores."""

from math import ceil

import torch
from torch import nn

from mae_toolkit.errors import UserError
from mae_toolkit.models.cells import Cells
from mae_toolkit.models.mask_ops import count_visible, grid_of, mask_like

# How the published methods round the number of hidden cells of n at ratio r.
COUNTS = {
    'int_visible': lambda n, r: n - int(n * (1 - r)),  # MAE, Hiera, FCMAE, GreenMIM
    'round_visible': lambda n, r: n - round(n * (1 - r)),  # SparK
    'ceil_hidden': lambda n, r: ceil(n * r),  # SimMIM
    'int_hidden': lambda n, r: int(n * r),  # MixMIM
}


class Masking(nn.Module):
    """Hides the same number of cells in every image: those with the highest scores.

    Args:
        ratio (float): Share of the cells that is hidden, between 0 and 1.
        unit (int): Pixels per cell, a multiple of the encoder's ``mask_unit``; the encoder's own by default.
        count (str): Rounding of the number of hidden cells, a key of ``COUNTS``.
        shared (bool): Hide the same cells in every image of a batch.
        predict_ratio (float | None): Share of all cells, at most ``ratio``, that is decoded and compared, drawn among
            the hidden ones (CrossMAE, arXiv:2401.14391, section 3.3); all hidden ones if None.
    """

    takes = dict(unit='unit')

    def __init__(
        self,
        ratio: float = 0.75,
        unit: int = 16,
        count: str = 'int_visible',
        shared: bool = False,
        predict_ratio: float | None = None,
    ):
        super().__init__()
        if not 0 < ratio < 1:
            raise UserError(f'A masking hides a share between 0 and 1 of the cells, not ratio={ratio}.')
        if not isinstance(unit, int) or unit < 1:
            raise UserError(f'unit={unit!r} is no number of pixels, 1 or more.')
        if count not in COUNTS:
            raise UserError(f'count={count!r} is none of {", ".join(COUNTS)}.')
        if predict_ratio is not None and not 0 < predict_ratio <= ratio:
            raise UserError(f'predict_ratio={predict_ratio} is a share above 0 of all cells, at most ratio={ratio}.')
        self.ratio, self.unit, self.count, self.shared = ratio, unit, count, shared
        self.predict_ratio = predict_ratio

    def score(self, imgs, h, w):
        """Scores (B, h, w) of the cells of images (B, C, H, W); the highest are hidden first."""
        raise NotImplementedError

    def num_hidden(self, cells):
        """Number of cells that are hidden of so many.

        Raises:
            UserError: If no cell would be hidden, or none visible.
        """
        hidden = COUNTS[self.count](cells, self.ratio)
        if not 0 < hidden < cells:
            raise UserError(
                f'Ratio {self.ratio} hides {hidden} of {cells} cells; some must be hidden and some visible: '
                'use larger images, smaller units or another ratio.'
            )
        return hidden

    def num_predicted(self, cells):
        """Number of hidden cells that are predicted, of so many cells.

        Raises:
            UserError: If none would be.
        """
        hidden = self.num_hidden(cells)
        if self.predict_ratio is None:
            return hidden
        predicted = hidden - int(cells * (self.ratio - self.predict_ratio))
        if not 1 <= predicted <= hidden:
            raise UserError(
                f'predict_ratio={self.predict_ratio} predicts {predicted} of {hidden} hidden cells of {cells}: some of '
                'them, and no more, can be; a schedule must not take the ratio below it.'
            )
        return predicted

    def predicted(self, mask):
        """The cells that are predicted, of a mask (B, 1, h, w) that was drawn: all hidden ones, or some of them."""
        if self.predict_ratio is None:
            return mask
        chance = torch.rand(mask.shape, device=mask.device).masked_fill(~mask, -1).flatten(1)  # (B, L)
        chosen = chance.topk(self.num_predicted(mask[0].numel()), dim=1, sorted=False).indices
        return torch.zeros_like(chance, dtype=torch.bool).scatter(1, chosen, True).view(mask.shape)

    def forward(self, imgs):
        """Mask (B, 1, h, w) for images (B, C, H, W): bool, True = hidden."""
        h, w = grid_of(imgs, self.unit)
        mask = self.hide_highest(self.score(imgs[:1] if self.shared else imgs, h, w))
        return mask.expand(imgs.shape[0], -1, -1, -1)

    def hide_highest(self, score):
        """Mask (B, 1, h, w) that hides the cells of the highest scores (B, h, w)."""
        flat = score.flatten(1)  # (B, L)
        hidden = flat.topk(self.num_hidden(flat.shape[1]), dim=1, sorted=False).indices
        mask = torch.zeros_like(flat, dtype=torch.bool).scatter(1, hidden, True)
        return mask.view(score.shape).unsqueeze(1)

    def cells(self, imgs, mask=None, predict=None, every=False):
        """Draw what is hidden and what of it is predicted, or check what is given.

        Args:
            imgs (Tensor): (B, C, H, W).
            mask (Tensor | None): (B, 1, h, w) bool, True = hidden; drawn if None.
            predict (Tensor | None): (B, 1, h, w) bool, True = predicted; if None, the hidden ones or, of a mask that is
                drawn, the share of ``predict_ratio``.
            every (bool): Predict every hidden cell, whatever ``predict_ratio`` says.

        Returns:
            Cells: Both masks, and how many cells of them count in every image.
        """
        drawn = mask is None
        mask = self(imgs) if drawn else mask_like(mask, imgs, self.unit)
        count = mask[0].numel()
        num_visible = count - self.num_hidden(count) if drawn else count_visible(mask)
        if predict is not None:
            return Cells(mask, mask_like(predict, imgs, self.unit), num_visible)
        if every or not drawn:
            return Cells(mask, num_visible=num_visible)
        return Cells(mask, self.predicted(mask), num_visible, self.num_predicted(count))
