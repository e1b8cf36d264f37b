"""Draw what an encoder was worth during its training."""

from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import IO, Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

COLOR = 'tab:blue'
LEAST_SPAN = 10.0  # percentage points of the axis: changes by tenths are chance, and must not look like a trend


def draw_watch(
    values: Mapping[int, float],
    ranks: Mapping[int, float],
    best: int,
    out: Path | IO[bytes],
    label: str,
    title: str = '',
    levels: Mapping[str, Mapping[int, float]] | None = None,
) -> None:
    """Draw a measure over the steps, with its value at the start as a line, and the effective rank, into a PNG.

    Args:
        values: Measure by step, in percent.
        ranks: Effective rank by step.
        best: Step whose weights are kept.
        out: The PNG.
        label: Name of the measure.
        title: Heading.
        levels: The same measure of each level of the encoder, by their names; drawn as thin lines.
    """
    figure = Figure(figsize=(7, 4), layout='constrained')
    axes = figure.add_subplot()
    steps = list(values)
    axes.plot([best], [values[best]], '*', ms=14, color=COLOR, label=f'best, step {best}')
    axes.axhline(values[steps[0]], ls='--', color=COLOR, alpha=0.6, label='start')
    plot_watch(axes, {label: values} | dict(levels or {}), {'effective rank': ranks})
    axes.set(xlabel='iteration', ylabel=label, title=title)
    FigureCanvasAgg(figure).print_png(out)


def plot_watch(axes: Axes, values: Mapping[str, Mapping[int, float]], ranks: Mapping[str, Mapping[int, float]]) -> None:
    """Plot measures in percent by the left axis, and effective ranks by the right one.

    Args:
        axes: Where to plot.
        values: Values by step by name; the first is drawn thick, the others are those of levels.
        ranks: Ranks by step by name.
    """
    for number, (name, series) in enumerate(values.items()):
        style: dict[str, Any] = (
            dict(ms=4, color=COLOR) if not number else dict(ms=2, lw=0.8, alpha=0.7, color=f'C{number + 1}')
        )
        axes.plot(list(series), list(series.values()), 'o-', label=name, **style)
    axes.set_ylim(*_choose_limits([value for series in values.values() for value in series.values()]))
    axes.set_ylabel('%')
    other = axes.twinx()
    for (name, series), marker in zip(ranks.items(), 'sv', strict=False):
        other.plot(list(series), list(series.values()), f'{marker}-', ms=3, color='tab:orange', alpha=0.6, label=name)
    other.set_ylim(bottom=0)
    other.set_ylabel('effective rank')
    axes.grid(alpha=0.3)
    lines = [line for part in (axes, other) for line in part.get_legend_handles_labels()[0]]
    axes.legend(handles=lines, fontsize='small', framealpha=0.6, ncols=1 + (len(lines) > 4))


def _choose_limits(values: Sequence[float]) -> tuple[float, float]:
    """Return the limits of an axis in percent around values, with a margin and LEAST_SPAN apart at least."""
    numbers = [value for value in values if isfinite(value)]
    low, high = min(numbers, default=0.0), max(numbers, default=0.0)
    span = max(LEAST_SPAN, 1.1 * (high - low))
    begin = min(max(0.0, (low + high - span) / 2), max(0.0, 100 - span))
    return begin, begin + span
