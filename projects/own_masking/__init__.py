"""An example of a custom masking."""

from projects.own_masking.edge_masking import EdgeMasking

__all__ = ['EdgeMasking']
