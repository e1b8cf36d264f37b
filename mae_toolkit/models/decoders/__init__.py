"""Decoders: fill the hidden cells."""

from mae_toolkit.models.decoders.cross_attention_decoder import CrossAttentionDecoder
from mae_toolkit.models.decoders.decoder import Decoder
from mae_toolkit.models.decoders.linear_decoder import LinearDecoder
from mae_toolkit.models.decoders.transformer_decoder import TransformerDecoder

__all__ = ['CrossAttentionDecoder', 'Decoder', 'LinearDecoder', 'TransformerDecoder']
