"""Models; importing this package registers them."""

from mae_toolkit.models.decoders import Decoder, TransformerDecoder
from mae_toolkit.models.encoders import ConvNeXt, Encoder, Features, Hiera, SparseCNN, Swin, ViT
from mae_toolkit.models.layers import norms
from mae_toolkit.models.losses import Loss, MaskedL1Loss, MaskedL2Loss, MaskedLoss, MaskedSmoothL1Loss
from mae_toolkit.models.masked_autoencoder import MaskedAutoencoder
from mae_toolkit.models.maskings import Masking, RandomMasking
from mae_toolkit.models.necks import SimplePyramid
from mae_toolkit.models.objective import Objective, PredictionHead
from mae_toolkit.models.preprocessor import ImagePreprocessor
from mae_toolkit.models.targets import PixelTarget, Target

__all__ = [
    'ConvNeXt',
    'Decoder',
    'Encoder',
    'Features',
    'Hiera',
    'ImagePreprocessor',
    'Loss',
    'MaskedAutoencoder',
    'MaskedL1Loss',
    'MaskedL2Loss',
    'MaskedLoss',
    'MaskedSmoothL1Loss',
    'Masking',
    'Objective',
    'PixelTarget',
    'PredictionHead',
    'RandomMasking',
    'SimplePyramid',
    'SparseCNN',
    'Swin',
    'Target',
    'TransformerDecoder',
    'ViT',
    'norms',
]
