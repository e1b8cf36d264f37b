"""UM-MAE (arXiv:2205.10063)."""

from projects.ummae.compact_decoder import CompactDecoder
from projects.ummae.compact_swin import CompactSwin
from projects.ummae.ummae import UMMAE

__all__ = ['UMMAE', 'CompactDecoder', 'CompactSwin']
