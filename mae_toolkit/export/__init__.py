"""Encoders for other programs: under the names of timm and of OpenMMLab's backbones, or as a graph."""

from mae_toolkit.export.backbones import backbone_config
from mae_toolkit.export.export import export
from mae_toolkit.export.graphs import GRAPHS, write_graph
from mae_toolkit.export.openmmlab import LAYOUTS, to_openmmlab
from mae_toolkit.export.timm import to_timm

__all__ = ['GRAPHS', 'LAYOUTS', 'backbone_config', 'export', 'to_openmmlab', 'to_timm', 'write_graph']
