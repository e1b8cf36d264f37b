"""Models; importing this package registers them."""

from mae_toolkit.models.cells import Cells
from mae_toolkit.models.classification_preprocessor import ClassificationPreprocessor
from mae_toolkit.models.classifier import Classifier
from mae_toolkit.models.decoders import (
    ConvNeXtDecoder,
    CrossAttentionDecoder,
    Decoder,
    LinearDecoder,
    TransformerDecoder,
    UNetDecoder,
)
from mae_toolkit.models.encoders import ConvNeXt, Encoder, Eva, Hiera, SparseCNN, Swin, ViT
from mae_toolkit.models.features import Features
from mae_toolkit.models.layers import norms
from mae_toolkit.models.losses import (
    FocalFrequencyLoss,
    Loss,
    MaskedCosineLoss,
    MaskedCrossEntropyLoss,
    MaskedL1Loss,
    MaskedL2Loss,
    MaskedLoss,
    MaskedSmoothL1Loss,
    PerceptualLoss,
    PictureLoss,
    SSIMLoss,
)
from mae_toolkit.models.masked_autoencoder import MaskedAutoencoder
from mae_toolkit.models.maskings import (
    AttentionMasking,
    BlockMasking,
    ColorNoiseMasking,
    GridMasking,
    InverseBlockMasking,
    Masking,
    RandomMasking,
    UniformMasking,
)
from mae_toolkit.models.necks import SimplePyramid
from mae_toolkit.models.objective import Objective, PredictionHead
from mae_toolkit.models.preprocessor import ImagePreprocessor
from mae_toolkit.models.targets import (
    CodebookTarget,
    EMATarget,
    FeatureTarget,
    HOGTarget,
    LaplacianTarget,
    PixelTarget,
    Target,
)

__all__ = [
    'AttentionMasking',
    'BlockMasking',
    'Cells',
    'ClassificationPreprocessor',
    'Classifier',
    'CodebookTarget',
    'ColorNoiseMasking',
    'ConvNeXt',
    'ConvNeXtDecoder',
    'CrossAttentionDecoder',
    'Decoder',
    'EMATarget',
    'Encoder',
    'Eva',
    'FeatureTarget',
    'Features',
    'FocalFrequencyLoss',
    'GridMasking',
    'HOGTarget',
    'Hiera',
    'ImagePreprocessor',
    'InverseBlockMasking',
    'LaplacianTarget',
    'LinearDecoder',
    'Loss',
    'MaskedAutoencoder',
    'MaskedCosineLoss',
    'MaskedCrossEntropyLoss',
    'MaskedL1Loss',
    'MaskedL2Loss',
    'MaskedLoss',
    'MaskedSmoothL1Loss',
    'Masking',
    'Objective',
    'PerceptualLoss',
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
    'UNetDecoder',
    'UniformMasking',
    'ViT',
    'norms',
]
