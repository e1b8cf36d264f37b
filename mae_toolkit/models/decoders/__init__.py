"""Decoders: fill the hidden cells."""

from mae_toolkit.models.decoders.decoder import Decoder
from mae_toolkit.models.decoders.linear_decoder import LinearDecoder
from mae_toolkit.models.decoders.transformer_decoder import TransformerDecoder

__all__ = ['Decoder', 'LinearDecoder', 'TransformerDecoder']
