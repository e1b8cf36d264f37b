"""Losses: how a prediction is compared with a target."""

from mae_toolkit.models.losses.loss import Loss, MaskedLoss
from mae_toolkit.models.losses.masked_losses import MaskedCosineLoss, MaskedL1Loss, MaskedL2Loss, MaskedSmoothL1Loss
from mae_toolkit.models.losses.perceptual_loss import PerceptualLoss
from mae_toolkit.models.losses.picture_loss import PictureLoss

__all__ = [
    'Loss',
    'MaskedCosineLoss',
    'MaskedL1Loss',
    'MaskedL2Loss',
    'MaskedLoss',
    'MaskedSmoothL1Loss',
    'PerceptualLoss',
    'PictureLoss',
]
