"""Draw vectors of images as points of a plane, colored by label or cluster, with pictures of some of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from PIL import Image

from mae_toolkit.printing import printable, shorten
from mae_toolkit.visualization.explanation.figures import render, without_math

MOST_GROUPS = 20  # that have a color of their own
MARKERS = 'osD^vP*X<>'
GRAY = (0.6, 0.6, 0.6)
WIDTH, HEIGHT = 9.0, 6.6  # inches
PICTURE = 28  # points of the longer side of a picture, of 72 to an inch
LONGEST = 28  # letters of a name in the legend


def draw_embedding_map(
    points: np.ndarray,
    groups: Sequence[str] | None,
    title: str,
    axis: str,
    pictures: Mapping[int, np.ndarray] | None = None,
    kind: str = 'label',
) -> Image.Image:
    """Draw points, in a color and shape for each group.

    Args:
        points: (N, 2).
        groups: The group of each point; None to draw them alike. The largest 20 have a color, the others are gray.
        title: Heading.
        axis: Name of the method, for the axes.
        pictures: Pictures (H, W, 3) uint8 of some points, by their rows.
        kind: What a group is, for the legend.
    """
    figure = Figure(figsize=(WIDTH, HEIGHT), layout='constrained')
    axes = figure.add_subplot()
    size = float(np.clip(4000 / len(points), 5, 45))
    colors = [GRAY] * len(points)
    if groups is None:
        axes.scatter(points[:, 0], points[:, 1], size, color='tab:blue', alpha=0.8, lw=0)
    else:
        _draw_groups(axes, points, groups, colors, size, kind)
    for row, picture in (pictures or {}).items():
        image = OffsetImage(picture, zoom=PICTURE / max(picture.shape[:2]), interpolation='antialiased')
        edge = {'edgecolor': colors[row], 'lw': 2.0, 'boxstyle': 'square,pad=0.05'}
        axes.add_artist(AnnotationBbox(image, points[row], pad=0.05, bboxprops=edge, zorder=3))
    axes.set(xlabel=f'{axis} 1 (no unit)', ylabel=f'{axis} 2 (no unit)', xticks=[], yticks=[])
    axes.set_title(printable(title), fontsize=11)
    axes.set_aspect('equal', adjustable='datalim')
    axes.margins(0.08)
    return render(figure)


def _draw_groups(axes: Axes, points: np.ndarray, groups: Sequence[str], colors: list, size: float, kind: str) -> None:
    """Draw the points of each group, and a legend; note the color of each point."""
    counts = Counter(groups)
    named = sorted(sorted(counts, key=lambda name: (-counts[name], name))[:MOST_GROUPS])
    palette = matplotlib.colormaps['tab10' if len(named) <= 10 else 'tab20'](range(len(named)))[:, :3].tolist()
    names = np.asarray(groups, object)
    rest = np.flatnonzero(~np.isin(names, named))
    if len(rest):
        others = f'{len(counts) - len(named)} others ({len(rest)})'
        axes.scatter(points[rest, 0], points[rest, 1], size, color=[GRAY], marker='.', label=others, lw=0)
    for number, name in enumerate(named):
        rows = np.flatnonzero(names == name)
        color = palette[number]
        # Matplotlib leaves out what begins with an underscore.
        label = f'{without_math(printable(shorten(name, LONGEST)))} ({len(rows)})'.lstrip('_')
        axes.scatter(
            points[rows, 0],
            points[rows, 1],
            size,
            color=[color],
            marker=MARKERS[number % len(MARKERS)],
            label=label,
            lw=0,
        )
        for row in rows:
            colors[row] = color
    axes.legend(title=kind, fontsize=9, loc='center left', bbox_to_anchor=(1.0, 0.5), markerscale=1.2, frameon=False)
