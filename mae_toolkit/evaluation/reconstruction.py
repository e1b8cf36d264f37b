"""How much of the hidden pixels a masked autoencoder predicts, beside what needs no learning."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from mae_toolkit.models.mask_ops import upsample
from mae_toolkit.models.masked_autoencoder import MaskedAutoencoder
from mae_toolkit.models.objective import Objective

MOST_JUDGED = 256  # held-out images: more would tell no more
PICTURES = ('picture', 'patches')  # kinds of targets that are pixels


@dataclass(frozen=True)
class ReconstructionScore:
    """What a model predicts of hidden cells.

    Attributes:
        images: Images on which it was measured.
        loss: Mean loss of the first objective.
        loss_of_mean: The same loss of a prediction that is the mean of the target, the same everywhere.
        texture: Standard deviation of the predicted pixels within patches, relative to that of the target; near 0 if
            every patch has one flat color; None if the target is not made of pixels.
    """

    images: int
    loss: float
    loss_of_mean: float
    texture: float | None

    @property
    def explained(self) -> float:
        """Return the share of the loss of the mean that the model has removed."""
        return 1 - self.loss / self.loss_of_mean if self.loss_of_mean else 0.0


@torch.no_grad()
def measure_reconstruction(model: MaskedAutoencoder, batches: Iterable[tuple[Tensor, Tensor]]) -> ReconstructionScore:
    """Measure the first objective of a model on images and masks.

    Args:
        model: The model; it is used in evaluation mode.
        batches: Normalized images (B, C, H, W), and masks (B, 1, h, w), True where hidden.
    """
    was_training = model.training
    model.eval()
    name, objective = next(iter(model.objectives.items()))
    assert isinstance(objective, Objective)
    images, losses, of_mean, predicted, wanted = 0, 0.0, 0.0, 0.0, 0.0
    for imgs, mask in batches:
        predictions, _ = model(imgs, mask=mask, mode='predict')
        prediction, target = predictions[name], objective.target(imgs)
        hidden = upsample(mask, target.shape[-2:])  # (B, 1, H/t, W/t)
        is_picture = objective.target.kind in PICTURES
        mean = _average(target, hidden, model.encoder.in_chans if is_picture else target.shape[1])
        losses += float(objective(prediction, imgs, mask)) * len(imgs)
        of_mean += float(objective(mean, imgs, mask)) * len(imgs)
        if is_picture:
            predicted += float(_within_patches(prediction, hidden, model.encoder.in_chans)) * len(imgs)
            wanted += float(_within_patches(target, hidden, model.encoder.in_chans)) * len(imgs)
        images += len(imgs)
    model.train(was_training)
    texture = (predicted / wanted) ** 0.5 if wanted else None
    return ReconstructionScore(images, losses / max(1, images), of_mean / max(1, images), texture)


def _average(target: Tensor, hidden: Tensor, groups: int) -> Tensor:
    """Replace a target (B, T, h, w) by its mean over the hidden cells, one number per group of channels."""
    x = target.unflatten(1, (groups, -1))  # (B, G, T/G, h, w)
    weights = hidden[:, None].expand_as(x)
    mean = (x * weights).sum((0, 2, 3, 4), keepdim=True) / weights.sum((0, 2, 3, 4), keepdim=True).clamp(min=1)
    return mean.expand_as(x).flatten(1, 2).contiguous()


def _within_patches(x: Tensor, hidden: Tensor, channels: int) -> Tensor:
    """Average the variance of each channel within hidden patches, of folded pixels (B, C*t*t, h, w)."""
    variance = x.unflatten(1, (channels, -1)).var(2, correction=0).mean(1, keepdim=True)  # (B, 1, h, w)
    return (variance * hidden).sum() / hidden.sum().clamp(min=1)
