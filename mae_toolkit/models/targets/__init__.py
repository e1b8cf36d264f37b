"""Targets: what is predicted."""

from mae_toolkit.models.targets.pixel_target import PixelTarget
from mae_toolkit.models.targets.target import Target

__all__ = ['PixelTarget', 'Target']
