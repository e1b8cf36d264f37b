"""Decoders: fill the hidden cells."""

from mae_toolkit.models.decoders.convnext_decoder import ConvNeXtDecoder
from mae_toolkit.models.decoders.cross_attention_decoder import CrossAttentionDecoder
from mae_toolkit.models.decoders.decoder import Decoder
from mae_toolkit.models.decoders.linear_decoder import LinearDecoder
from mae_toolkit.models.decoders.transformer_decoder import TransformerDecoder
from mae_toolkit.models.decoders.unet_decoder import UNetDecoder

__all__ = [
    'ConvNeXtDecoder',
    'CrossAttentionDecoder',
    'Decoder',
    'LinearDecoder',
    'TransformerDecoder',
    'UNetDecoder',
]
