"""Draw which visible cells a prediction depends on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from PIL import Image

from mae_toolkit.visualization.explanation.figures import add_color_bar, render, without_math

TILE = 2.4  # inches
CELL = 'deepskyblue'
HIDDEN = '0.63'  # the gray of hidden pixels in pictures of reconstructions


class DependenceRow(NamedTuple):
    """A row of the picture.

    Attributes:
        pictures: Pictures (H, W, 3) uint8 by heading, before the map.
        gradient: (h, w), in multiples of the mean over visible cells; NaN where hidden.
        cell: Row and column of the cell whose prediction it is.
        unit: Pixels per cell.
        label: Text on the left.
    """

    pictures: dict[str, np.ndarray]
    gradient: np.ndarray
    cell: tuple[int, int]
    unit: int
    label: str


def draw_dependence(rows: Sequence[DependenceRow], title: str) -> Image.Image:
    """Draw images beside the gradient of each visible cell, all on one scale.

    Args:
        rows: What is drawn, with the same headings.
        title: Heading.
    """
    headings = [*rows[0].pictures, 'what the outlined cell depends on']
    first = next(iter(rows[0].pictures.values()))
    aspect = max(row.gradient.shape[0] / row.gradient.shape[1] for row in rows) if first.size else 1
    layout = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.03, wspace=0.01, hspace=0.01)
    size = len(headings) * TILE + 1.3, len(rows) * TILE * min(aspect, 2) + 0.8
    figure = Figure(figsize=size, layout=layout)
    grid = figure.subplots(len(rows), len(headings), squeeze=False)
    norm = PowerNorm(0.5, 0, max(2.0, max(float(np.nanmax(row.gradient)) for row in rows)))
    colors, shown = colormaps['magma'].with_extremes(bad=HIDDEN), None
    for axes, row in zip(grid, rows, strict=True):
        for one, picture in zip(axes, row.pictures.values(), strict=False):
            height, width = picture.shape[:2]
            one.imshow(picture, extent=(0, width / row.unit, height / row.unit, 0))
            _frame(one, row, picture)
        shown = axes[-1].imshow(
            row.gradient, cmap=colors, norm=norm, extent=(0, row.gradient.shape[1], row.gradient.shape[0], 0)
        )
        _frame(axes[-1], row, next(iter(row.pictures.values())))
        axes[0].set_ylabel(without_math(row.label), fontsize=8)
    for one, heading in zip(grid[0], headings, strict=True):
        one.set_title(heading, fontsize=9)
    figure.suptitle(title, fontsize=10)
    assert shown is not None
    add_color_bar(figure, shown, grid, 'gradient, times the mean of the visible cells')
    return render(figure)


def _frame(axes: Axes, row: DependenceRow, picture: np.ndarray) -> None:
    """Outline the cell, and show no more than the picture."""
    corner = row.cell[1], row.cell[0]
    for color, width in (('black', 3.2), (CELL, 1.8)):
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, ec=color, lw=width))
    axes.set(xticks=[], yticks=[], xlim=(0, picture.shape[1] / row.unit), ylim=(picture.shape[0] / row.unit, 0))
    axes.set_frame_on(False)
