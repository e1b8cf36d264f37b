"""Figures of Matplotlib as pictures of Pillow."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from PIL import Image

DPI = 110


def add_color_bar(figure: Figure, shown: ScalarMappable, axes: np.ndarray, label: str, extend: str = 'neither') -> None:
    """Add one narrow bar of colors for a grid of pictures on one scale.

    Args:
        figure: The figure.
        shown: One of the pictures.
        axes: The grid, beside which the bar stands.
        label: What the colors mean, with its unit.
        extend: ``'max'`` where greater values have the brightest color, too.
    """
    bar = figure.colorbar(shown, ax=axes, extend=extend, pad=0.01, aspect=30, fraction=0.05)
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=8)


def without_math(text: str) -> str:
    """Return a text of a user, such as the name of a file, so that Matplotlib takes no dollar sign for a formula."""
    return text.replace('$', r'\$')


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
