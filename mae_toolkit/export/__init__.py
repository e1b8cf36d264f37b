"""Encoders for other people's programs: under the names of OpenMMLab's backbones, or as a graph."""

from mae_toolkit.export.export import export
from mae_toolkit.export.graphs import GRAPHS, write_graph
from mae_toolkit.export.layouts import LAYOUTS, renamed
from mae_toolkit.export.networks import backbone_config

__all__ = ['GRAPHS', 'LAYOUTS', 'backbone_config', 'export', 'renamed', 'write_graph']
