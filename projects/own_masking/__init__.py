"""A masking of one's own."""

from projects.own_masking.edge_masking import EdgeMasking

__all__ = ['EdgeMasking']
