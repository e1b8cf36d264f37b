"""Pictures of reconstructions, predictions, annotations and curves."""

from mae_toolkit.visualization.curves import draw_losses, draw_metrics, read_scalars
from mae_toolkit.visualization.grid import make_picture_grid, to_rgb
from mae_toolkit.visualization.predictions import Objects, draw_classes, draw_labels, draw_objects
from mae_toolkit.visualization.reconstruction import Reconstruction, reconstruct

__all__ = [
    'Objects',
    'Reconstruction',
    'draw_classes',
    'draw_labels',
    'draw_losses',
    'draw_metrics',
    'draw_objects',
    'make_picture_grid',
    'read_scalars',
    'reconstruct',
    'to_rgb',
]
