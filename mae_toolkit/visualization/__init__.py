"""Pictures: reconstructions and curves."""

from mae_toolkit.visualization.curves import draw_losses, read_scalars
from mae_toolkit.visualization.grid import picture_grid, to_rgb
from mae_toolkit.visualization.reconstruction import Reconstruction, reconstruct

__all__ = ['Reconstruction', 'draw_losses', 'picture_grid', 'read_scalars', 'reconstruct', 'to_rgb']
