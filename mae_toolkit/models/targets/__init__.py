"""Targets: what is predicted."""

from mae_toolkit.models.targets.hog_target import HOGTarget
from mae_toolkit.models.targets.pixel_target import PixelTarget
from mae_toolkit.models.targets.target import Target

__all__ = ['HOGTarget', 'PixelTarget', 'Target']
