"""Draw how alike the layers of two networks are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image

from mae_toolkit.visualization.explanation.figures import render, without_math

CELL = 0.36  # inches
MOST_TEXTS = 16  # layers per side whose numbers are written
MOST_TICKS = 24


def draw_cka(
    values: np.ndarray, first: Sequence[str], second: Sequence[str], names: tuple[str, str], title: str
) -> Image.Image:
    """Draw CKA as a heat map, the first layers at the bottom left.

    Args:
        values: (layers of the first, layers of the second); NaN is gray.
        first: Names of the layers of the first network.
        second: Those of the second.
        names: Names of the networks.
        title: Heading.
    """
    rows, columns = values.shape
    cell = max(CELL, 3.2 / max(rows, columns))
    figure = Figure(figsize=(max(4.2, columns * cell + 2.3), max(3.2, rows * cell + 1.7)), layout='constrained')
    axes = figure.add_subplot()
    colors = colormaps['magma'].with_extremes(bad='0.75')
    shown = axes.imshow(values.clip(0, 1), cmap=colors, vmin=0, vmax=1, origin='lower')
    if max(rows, columns) <= MOST_TEXTS:
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                color = 'black' if value > 0.65 else 'white'
                axes.text(column, row, f'{max(value, 0):.2f}', ha='center', va='center', fontsize=7.5, color=color)
    for axis, layers, name in ((axes.yaxis, first, names[0]), (axes.xaxis, second, names[1])):
        kind = layers[0].split()[0]
        step = -(-len(layers) // MOST_TICKS)
        axis.set_ticks(range(0, len(layers), step), [layer.split()[-1] for layer in layers[::step]])
        axis.set_label_text(f'{kind} of {without_math(name)}')
    axes.set_title(title, fontsize=11)
    figure.colorbar(shown, ax=axes, label='linear CKA')
    return render(figure)
