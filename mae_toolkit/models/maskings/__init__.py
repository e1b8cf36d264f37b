"""Maskings, which decide what is hidden."""

from mae_toolkit.models.maskings.attention_masking import AttentionMasking
from mae_toolkit.models.maskings.block_masking import BlockMasking, InverseBlockMasking
from mae_toolkit.models.maskings.color_noise_masking import ColorNoiseMasking
from mae_toolkit.models.maskings.grid_masking import GridMasking, UniformMasking
from mae_toolkit.models.maskings.masking import Masking
from mae_toolkit.models.maskings.random_masking import RandomMasking

__all__ = [
    'AttentionMasking',
    'BlockMasking',
    'ColorNoiseMasking',
    'GridMasking',
    'InverseBlockMasking',
    'Masking',
    'RandomMasking',
    'UniformMasking',
]
