"""Encoders, which turn the visible part of images into feature maps. They are the downstream backbones."""

from mae_toolkit.models.encoders.convnext import ConvNeXt
from mae_toolkit.models.encoders.encoder import Encoder
from mae_toolkit.models.encoders.eva import Eva
from mae_toolkit.models.encoders.hiera import Hiera
from mae_toolkit.models.encoders.sparse_cnn import SparseCNN
from mae_toolkit.models.encoders.swin import Swin
from mae_toolkit.models.encoders.timm_encoder import TimmEncoder
from mae_toolkit.models.encoders.vit import ViT

__all__ = ['ConvNeXt', 'Encoder', 'Eva', 'Hiera', 'SparseCNN', 'Swin', 'TimmEncoder', 'ViT']
