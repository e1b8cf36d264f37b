"""Draw attention: maps of heads, and how far heads look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

from mae_toolkit.visualization.explanation.figures import add_color_bar, render

TILE = 1.15  # inches
CAP = 99.5  # percentile of all shown values that has the brightest color
UNSEEN = '0.75'


class MapRow(NamedTuple):
    """A row of maps.

    Attributes:
        picture: (H, W, 3) uint8, the image.
        label: Text on its left.
        query: Row and column of a mark in the picture, in pixels; None for no mark.
        maps: (heads, h, w), attention in multiples of equal attention; NaN where it is not seen.
        crop: Height and width of the picture in positions of the maps, which may reach beyond it.
    """

    picture: np.ndarray
    label: str
    query: tuple[float, float] | None
    maps: np.ndarray
    crop: tuple[float, float]


def draw_attention_maps(rows: Sequence[MapRow], title: str) -> Image.Image:
    """Draw images beside the attention of each head, all on one scale.

    Args:
        rows: What is drawn; rows may differ in their heads.
        title: Heading.
    """
    heads = max(len(row.maps) for row in rows)
    values = np.concatenate([row.maps[np.isfinite(row.maps)] for row in rows])
    top = max(2.0, float(np.percentile(values, CAP)))
    aspect = max(row.picture.shape[0] / row.picture.shape[1] for row in rows)
    layout = ConstrainedLayoutEngine(w_pad=0.01, h_pad=0.02, wspace=0.01, hspace=0.01)
    size = max(5.0, (heads + 1) * TILE + 1.4), len(rows) * TILE * min(aspect, 2) + 0.8
    figure = Figure(figsize=size, layout=layout)
    colors = colormaps['magma'].with_extremes(bad=UNSEEN)
    grid = figure.subplots(len(rows), heads + 1, squeeze=False)
    norm, shown = PowerNorm(0.5, 0, top, clip=True), None  # the root, so that single peaks do not hide the rest
    for axes, row in zip(grid, rows, strict=True):
        for one in axes:
            one.set(xticks=[], yticks=[])
            one.set_frame_on(False)
        axes[0].imshow(row.picture)
        axes[0].set_ylabel(row.label, fontsize=8)
        if row.query is not None:
            axes[0].plot(row.query[1] - 0.5, row.query[0] - 0.5, 'o', ms=7, mfc='none', mec='white', mew=2.6)
            axes[0].plot(row.query[1] - 0.5, row.query[0] - 0.5, 'o', ms=7, mfc='none', mec='red', mew=1.3)
        for one, values in zip(axes[1:], row.maps, strict=False):
            shown = one.imshow(values, cmap=colors, norm=norm, interpolation='nearest')
            one.set(xlim=(-0.5, row.crop[1] - 0.5), ylim=(row.crop[0] - 0.5, -0.5))
    for number, one in enumerate(grid[0][1:], 1):
        one.set_title(f'head {number}', fontsize=8)
    figure.suptitle(title, fontsize=10)
    assert shown is not None
    add_color_bar(figure, shown, grid, 'times equal attention', extend='max')
    return render(figure)


def draw_attention_distances(
    distances: Sequence[np.ndarray], equal: Sequence[float], is_windowed: Sequence[bool], title: str
) -> Image.Image:
    """Draw how far the heads of each block look, a dot per head.

    Args:
        distances: Per block (heads,), in pixels.
        equal: Per block the distance if all positions were attended equally.
        is_windowed: Per block whether it attends within windows.
        title: Heading.
    """
    figure = Figure(figsize=(max(5.5, 0.42 * len(distances) + 1.5), 4), layout='constrained')
    axes = figure.add_subplot()
    blocks = np.arange(1, len(distances) + 1)
    for windowed, color, name in ((False, 'tab:blue', 'a head'), (True, 'tab:orange', 'a head, within windows')):
        points = [(b, d) for b, of, w in zip(blocks, distances, is_windowed, strict=True) if w == windowed for d in of]
        if points:
            axes.plot(*zip(*points, strict=True), 'o', color=color, ms=5, alpha=0.75, label=name, mew=0)
    axes.plot(blocks, [d.mean() for d in distances], '-', color='0.2', lw=1.3, label='mean of the heads')
    axes.plot(blocks, equal, '_', color='tab:red', ms=14, mew=2, label='equal attention')
    axes.set(xlabel='block', ylabel='mean attended distance (pixels)', title=title)
    axes.set_ylim(0, 1.08 * max(*equal, *(float(d.max()) for d in distances)))
    axes.set_xticks(blocks if len(blocks) <= 24 else blocks[::2])
    axes.grid(alpha=0.3)
    axes.legend(fontsize='small', loc='best')
    return render(figure)
