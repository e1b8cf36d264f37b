"""Draw an effective receptive field."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from PIL import Image

from mae_toolkit.visualization.explanation.figures import render

COLORS = ('white', 'deepskyblue')


def draw_receptive_field(
    gradient: np.ndarray, center: tuple[float, float], radii: dict[float, float], title: str
) -> Image.Image:
    """Draw a receptive field, with the circles that hold shares of it.

    Args:
        gradient: (H, W), not negative.
        center: Row and column of the middle, in pixels.
        radii: Pixels by share.
        title: Heading.
    """
    height, width = gradient.shape
    scale = 4.2 / max(height, width)
    figure = Figure(figsize=(max(4.2, width * scale + 2.0), height * scale + 1.0), layout='constrained')
    axes = figure.add_subplot()
    # The fourth root shows what is far away: the gradient falls by orders of magnitude.
    shown = (gradient / gradient.max()) ** 0.25
    image = axes.imshow(shown, cmap='magma', vmin=0, vmax=1, extent=(0, width, height, 0), interpolation='nearest')
    for color, (share, radius) in zip(COLORS, radii.items(), strict=False):
        circle = Circle(center[::-1], radius, fill=False, ec=color, lw=1.6, label=f'{share:.0%} within {radius:.0f} px')
        axes.add_patch(circle)
    axes.set(xlim=(0, width), ylim=(height, 0), xlabel='pixels', title=title)
    axes.legend(loc='upper right', fontsize='small', facecolor='0.25', edgecolor='none', labelcolor='white')
    ticks = (0, 0.001, 0.01, 0.1, 1)
    bar = figure.colorbar(image, ax=axes, ticks=[tick**0.25 for tick in ticks], label='gradient, relative to its peak')
    bar.ax.set_yticklabels([f'{tick:g}' for tick in ticks])
    return render(figure)
