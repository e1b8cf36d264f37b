"""Encoders for other people's programs: under the names of OpenMMLab's backbones, or as a graph."""

from mae_toolkit.export.graphs import GRAPHS, write_graph
from mae_toolkit.export.layouts import LAYOUTS, renamed
from mae_toolkit.export.networks import theirs

__all__ = ['GRAPHS', 'LAYOUTS', 'renamed', 'theirs', 'write_graph']
