"""Targets: what is predicted."""

from mae_toolkit.models.targets.ema_target import EMATarget
from mae_toolkit.models.targets.feature_target import FeatureTarget
from mae_toolkit.models.targets.pixel_target import PixelTarget
from mae_toolkit.models.targets.target import Target

__all__ = ['EMATarget', 'FeatureTarget', 'PixelTarget', 'Target']
