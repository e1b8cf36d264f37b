"""Losses, which compare a prediction with a target."""

from mae_toolkit.models.losses.focal_frequency_loss import FocalFrequencyLoss
from mae_toolkit.models.losses.loss import Loss, MaskedLoss
from mae_toolkit.models.losses.masked_losses import (
    MaskedCosineLoss,
    MaskedCrossEntropyLoss,
    MaskedL1Loss,
    MaskedL2Loss,
    MaskedSmoothL1Loss,
)
from mae_toolkit.models.losses.perceptual_loss import PerceptualLoss
from mae_toolkit.models.losses.picture_loss import PictureLoss
from mae_toolkit.models.losses.ssim_loss import SSIMLoss

__all__ = [
    'FocalFrequencyLoss',
    'Loss',
    'MaskedCosineLoss',
    'MaskedCrossEntropyLoss',
    'MaskedL1Loss',
    'MaskedL2Loss',
    'MaskedLoss',
    'MaskedSmoothL1Loss',
    'PerceptualLoss',
    'PictureLoss',
    'SSIMLoss',
]
