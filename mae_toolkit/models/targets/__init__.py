"""Targets, which are what objectives predict."""

from mae_toolkit.models.targets.codebook_target import CodebookTarget
from mae_toolkit.models.targets.ema_target import EMATarget
from mae_toolkit.models.targets.feature_target import FeatureTarget
from mae_toolkit.models.targets.hog_target import HOGTarget
from mae_toolkit.models.targets.laplacian_target import LaplacianTarget
from mae_toolkit.models.targets.pixel_target import PixelTarget
from mae_toolkit.models.targets.target import Target

__all__ = [
    'CodebookTarget',
    'EMATarget',
    'FeatureTarget',
    'HOGTarget',
    'LaplacianTarget',
    'PixelTarget',
    'Target',
]
