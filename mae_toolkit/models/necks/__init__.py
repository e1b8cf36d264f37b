"""Necks, which stand between an encoder and the heads of a detector or segmenter."""

from mae_toolkit.models.necks.simple_pyramid import SimplePyramid

__all__ = ['SimplePyramid']
