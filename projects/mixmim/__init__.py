"""MixMIM, also known as MixMAE (arXiv:2205.13137)."""

from projects.mixmim.mixmim import MixMIM
from projects.mixmim.mixmim_swin import MixMIMSwin

__all__ = ['MixMIM', 'MixMIMSwin']
