"""How far a masked autoencoder is off, everywhere in an image: each cell is hidden several times."""

from __future__ import annotations

from math import ceil

import torch
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.modes import evaluating
from mae_toolkit.models.losses.loss import MaskedLoss
from mae_toolkit.models.mask_ops import find_grid, upsample
from mae_toolkit.models.masked_autoencoder import MaskedAutoencoder
from mae_toolkit.models.objective import Objective

PIXELS = ('picture', 'patches')  # kinds of targets that have an error for each pixel of a patch


class ErrorReader:
    """Read the errors of a masked autoencoder in its own target (pixels, HOG, features, codes) and by its own losses.

    In each repeat the cells are put into a random order on a circle, from which each mask hides a piece; the pieces
    begin at equal distances, so that together they hide every cell, each about equally often. All images get the same
    masks. The idea of many masks is MAEDAY's (Schwartz et al., arXiv:2211.07634).

    Args:
        model: The model.
        masks: Masks of a repeat; with so many, times the ratio, at least 1.
        repeats: How often new masks are drawn.
        ratio: Share of the cells that each mask hides, between 0 and 1; as in the training if None.
        grain: Pixels per side of a position of the map of errors, where the target is pixels; its stride if larger.
        seed: Seed of the masks.

    Raises:
        UserError: If the model compares nothing position by position, or an argument is out of its range.
    """

    def __init__(
        self,
        model: MaskedAutoencoder,
        masks: int = 4,
        repeats: int = 2,
        ratio: float | None = None,
        grain: int = 4,
        seed: int = 0,
    ) -> None:
        for name, value in (('masks', masks), ('repeats', repeats), ('grain', grain)):
            if value < 1:
                raise UserError(f'{name}={value} must be 1 or more.')
        if ratio is not None and not 0 < ratio < 1:
            raise UserError(f'ratio={ratio} must be between 0 and 1: it is the share of the cells that a mask hides.')
        self.model, self.masks, self.repeats, self.ratio = model, masks, repeats, ratio
        self.grain, self.seed, self.unit = grain, seed, model.masking.unit
        self.objective = _find_objective(model)

    def __call__(self, imgs: Tensor) -> Tensor:
        """Average the errors (B, 1, h, w) over the masks that hide each position of images (B, C, H, W)."""
        rows, columns = find_grid(imgs, self.unit)
        masks = self.draw_masks(rows, columns).to(imgs.device)
        objective = self.model.objectives[self.objective]
        assert isinstance(objective, Objective)
        total: Tensor | None = None
        with evaluating(self.model):
            target = objective.target(imgs)
            for mask in masks:
                batch = mask.expand(len(imgs), -1, -1, -1)
                predictions, _ = self.model(imgs, mask=batch, mode='predict')
                errors = self._compare(objective, predictions[self.objective], target)
                errors = errors * upsample(batch, errors.shape[-2:])
                total = errors if total is None else total + errors
        assert total is not None
        return total / upsample(masks.sum(0, keepdim=True), total.shape[-2:])

    def draw_masks(self, rows: int, columns: int) -> Tensor:
        """Draw masks (M, 1, rows, columns), True where hidden, which follow from the seed alone.

        Raises:
            UserError: If so few masks cannot hide every cell.
        """
        cells = rows * columns
        hidden = cells - int(cells * (1 - self.ratio)) if self.ratio else self.model.masking.count_hidden(cells)
        if not 0 < hidden < cells:
            raise UserError(f'ratio={self.ratio} hides {hidden} of {cells} cells: some must be hidden, some visible.')
        if self.masks * hidden < cells:
            raise UserError(
                f'{self.masks} masks that hide {hidden} of {cells} cells each leave some that none of them hides: take '
                f'at least {ceil(cells / hidden)} masks.'
            )
        generator = torch.Generator().manual_seed(self.seed)
        found = torch.zeros(self.repeats, self.masks, cells, dtype=torch.bool)
        for repeat in found:
            order = torch.randperm(cells, generator=generator)
            for number, mask in enumerate(repeat):
                mask[order[(number * cells // self.masks + torch.arange(hidden)) % cells]] = True
        return found.view(-1, 1, rows, columns)

    def _compare(self, objective: Objective, prediction: Tensor, target: Tensor) -> Tensor:
        """Measure errors (B, 1, h, w) by the losses of the objective that tell them position by position."""
        stride = objective.target.stride
        if objective.target.kind in PIXELS and stride % self.grain == 0 and stride > self.grain:
            prediction, target = (pixel_unshuffle(pixel_shuffle(x, stride), self.grain) for x in (prediction, target))
        prediction = prediction.float()
        target = target.float() if target.is_floating_point() else target
        losses = [loss for loss in objective.losses if isinstance(loss, MaskedLoss)]
        return torch.stack([loss.weight * loss.distance(prediction, target) for loss in losses]).sum(0)


def _find_objective(model: MaskedAutoencoder) -> str:
    """Return the name of the first objective with a loss that compares position by position."""
    for name, objective in model.objectives.items():
        if any(isinstance(loss, MaskedLoss) and loss.weight for loss in objective.losses):
            return name
    raise UserError(
        'The model has no loss that compares its target position by position (such as MaskedL2Loss): its errors tell '
        'no defects.'
    )
