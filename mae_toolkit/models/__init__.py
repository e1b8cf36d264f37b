"""Models; importing this package registers them."""

from mae_toolkit.models.decoders import Decoder, TransformerDecoder
from mae_toolkit.models.encoders import ConvNeXt, Encoder, Features, Hiera, SparseCNN, Swin, ViT
from mae_toolkit.models.losses import (
    FocalFrequencyLoss,
    Loss,
    MaskedCrossEntropyLoss,
    MaskedL1Loss,
    MaskedL2Loss,
    MaskedLoss,
    MaskedSmoothL1Loss,
    PictureLoss,
    SSIMLoss,
)
from mae_toolkit.models.masked_autoencoder import MaskedAutoencoder
from mae_toolkit.models.maskings import Masking, RandomMasking
from mae_toolkit.models.necks import SimplePyramid
from mae_toolkit.models.objective import Objective, PredictionHead
from mae_toolkit.models.preprocessor import ImagePreprocessor
from mae_toolkit.models.targets import CodebookTarget, HOGTarget, LaplacianTarget, PixelTarget, Target

__all__ = [
    'CodebookTarget',
    'ConvNeXt',
    'Decoder',
    'Encoder',
    'Features',
    'FocalFrequencyLoss',
    'HOGTarget',
    'Hiera',
    'ImagePreprocessor',
    'LaplacianTarget',
    'Loss',
    'MaskedAutoencoder',
    'MaskedCrossEntropyLoss',
    'MaskedL1Loss',
    'MaskedL2Loss',
    'MaskedLoss',
    'MaskedSmoothL1Loss',
    'Masking',
    'Objective',
    'PictureLoss',
    'PixelTarget',
    'PredictionHead',
    'RandomMasking',
    'SSIMLoss',
    'SimplePyramid',
    'SparseCNN',
    'Swin',
    'Target',
    'TransformerDecoder',
    'ViT',
]
