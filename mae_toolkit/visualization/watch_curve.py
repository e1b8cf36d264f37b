"""Draw what an encoder was worth during its training."""

from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import IO

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

LEAST_SPAN = 10.0  # percentage points of the axis: changes by tenths are chance, and must not look like a trend


def draw_watch(
    values: Mapping[int, float],
    ranks: Mapping[int, float],
    best: int,
    out: Path | IO[bytes],
    label: str,
    title: str = '',
) -> None:
    """Draw a measure over the steps, with its value at the start as a line, and the effective rank, into a PNG.

    Args:
        values: Measure by step, in percent.
        ranks: Effective rank by step.
        best: Step whose weights are kept.
        out: The PNG.
        label: Name of the measure.
        title: Heading.
    """
    figure = Figure(figsize=(7, 4), layout='constrained')
    axes = figure.add_subplot()
    steps = list(values)
    axes.plot(steps, list(values.values()), 'o-', ms=4, color='tab:blue', label=label)
    axes.plot([best], [values[best]], '*', ms=14, color='tab:blue', label=f'best, step {best}')
    axes.axhline(values[steps[0]], ls='--', color='tab:blue', alpha=0.6, label='start')
    axes.set_ylim(*_choose_limits(list(values.values())))
    other = axes.twinx()
    other.plot(list(ranks), list(ranks.values()), 's-', ms=3, color='tab:orange', alpha=0.6, label='effective rank')
    other.set_ylim(bottom=0)
    other.set_ylabel('effective rank')
    axes.set(xlabel='iteration', ylabel=label, title=title)
    axes.grid(alpha=0.3)
    lines = [line for part in (axes, other) for line in part.get_legend_handles_labels()[0]]
    axes.legend(handles=lines)
    FigureCanvasAgg(figure).print_png(out)


def _choose_limits(values: Sequence[float]) -> tuple[float, float]:
    """Return the limits of an axis in percent around values, with a margin and LEAST_SPAN apart at least."""
    numbers = [value for value in values if isfinite(value)]
    low, high = min(numbers), max(numbers)
    span = max(LEAST_SPAN, 1.1 * (high - low))
    begin = min(max(0.0, (low + high - span) / 2), max(0.0, 100 - span))
    return begin, begin + span
