"""Maskings: what is hidden."""

from mae_toolkit.models.maskings.masking import Masking
from mae_toolkit.models.maskings.random_masking import RandomMasking

__all__ = ['Masking', 'RandomMasking']
