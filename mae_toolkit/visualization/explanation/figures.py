"""Figures of Matplotlib as pictures of Pillow."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

DPI = 110


def render(figure: Figure, dpi: int = DPI) -> Image.Image:
    """Render a figure of Matplotlib.

    Args:
        figure: The figure.
        dpi: Pixels per inch.
    """
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3]))
