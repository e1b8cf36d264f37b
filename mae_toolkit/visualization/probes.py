"""Draw the table of probes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

LEAST_SPAN = 10.0  # points between the colors of the best and the worst: tenths must not look like a difference


def draw_probes(
    features: Sequence[str],
    titles: Sequence[str],
    scores: Sequence[Sequence[float | None]],
    is_best: Sequence[Sequence[bool]],
    out: Path | IO[bytes],
    title: str = '',
    software: str | None = None,
) -> None:
    """Draw scores of levels and poolings by probe into a PNG; the brighter, the better within a column.

    Args:
        features: Names of the rows.
        titles: Names of the columns.
        scores: Numbers; None where there are none.
        is_best: Which numbers get a frame.
        out: The PNG.
        title: Heading.
        software: Name of the program in the metadata.
    """
    values = np.array([[np.nan if value is None else value for value in row] for row in scores], float)
    shade = np.full_like(values, np.nan)
    for column in range(values.shape[1]):
        known = np.isfinite(values[:, column])
        numbers = values[known, column]
        low, high = numbers.min(initial=np.inf), numbers.max(initial=-np.inf)
        shade[known, column] = 1 - (high - numbers) / max(high - low, LEAST_SPAN)
    figure = Figure(figsize=(2.2 + 0.95 * len(titles), 1.6 + 0.32 * len(features)), layout='constrained')
    axes = figure.add_subplot()
    axes.imshow(shade, cmap='viridis', vmin=-0.2, vmax=1, aspect='auto')
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            color = 'black' if shade[row, column] > 0.6 else 'white'
            axes.text(column, row, f'{value:.1f}', ha='center', va='center', color=color, fontsize=8)
        if is_best[row][column]:
            axes.add_patch(Rectangle((column - 0.48, row - 0.46), 0.96, 0.92, fill=False, ec='tab:red', lw=2))
    axes.set_xticks(range(len(titles)), titles, rotation=35, ha='left', fontsize=9)
    axes.set_yticks(range(len(features)), features, fontsize=9)
    axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    if title:
        figure.suptitle(title, fontsize=10)
    metadata = {} if software is None else {'Software': software}
    FigureCanvasAgg(figure).print_png(out, metadata=metadata)
