"""Read and draw what a run logged."""

import json
import re
from pathlib import Path
from typing import IO, Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mae_toolkit.visualization.watch_curve import plot_watch

Series = dict[str, dict[int, float]]  # values by step by name
WATCH = 'watch/'  # what WatchHook measures begins with it
NO_METRIC = re.compile(r'loss|(^|/)(data_)?time$')


def read_scalars(work_dir: str | Path) -> Series:
    """Read the scalars of all runs in a work directory, in the order of their starts.

    A resumed run replaces the steps that come after its start.
    """
    series: Series = {}
    for path in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        rows = [row for line in path.read_text().splitlines() if (row := _parse_row(line))]
        first = min((row['step'] for row in rows), default=0)
        for values in series.values():
            for step in [s for s in values if s >= first]:
                del values[step]
        for row in rows:
            for name, value in row.items():
                if name != 'step' and isinstance(value, int | float):
                    series.setdefault(name, {})[row['step']] = value
    return series


def draw_losses(series: Series, out: Path | IO[bytes], title: str = '') -> bool:
    """Draw the losses over the steps into a PNG, and below them what :class:`WatchHook` has measured, if anything.

    Args:
        series: What :func:`read_scalars` returns.
        out: The PNG.
        title: Heading of the curves.

    Returns:
        Whether there was anything to draw.
    """
    losses = {name: values for name, values in series.items() if 'loss' in name and values}
    for stage in ('train', 'val'):  # the sum equals its only part
        total, parts = f'{stage}/loss', [name for name in losses if name.startswith(f'{stage}/')]
        if total in parts and any(losses[name] == losses[total] for name in parts if name != total):
            losses.pop(total)
    lowest, highest = (f((v for values in losses.values() for v in values.values()), default=0.0) for f in (min, max))
    is_steep = 0 < lowest < highest / 5  # a steep start would flatten the rest
    watched = {name.removeprefix(WATCH): values for name, values in series.items() if name.startswith(WATCH) and values}
    return _draw(losses, out, 'loss', title, is_steep, watched=watched)


def draw_metrics(series: Series, out: Path | IO[bytes], title: str = '', best: str | None = None) -> bool:
    """Draw the metrics of the held-out images over the steps into a PNG.

    Args:
        series: What :func:`read_scalars` returns.
        out: The PNG.
        title: Heading of the curves.
        best: Name of the metric whose best value is marked, such as ``'coco/bbox_mAP'``; none if None.

    Returns:
        Whether there was anything to draw.
    """
    names = [name for name in series if name.startswith('val/') and not NO_METRIC.search(name)]
    # COCO says -1 where there is no object of a size.
    shown = {name.removeprefix('val/'): {step: v for step, v in series[name].items() if v != -1} for name in names}
    shown = {name: values for name, values in shown.items() if values}
    return _draw(shown, out, 'metric', title, mark=best)


def _draw(
    series: Series,
    out: Path | IO[bytes],
    label: str,
    title: str,
    logarithmic: bool = False,
    mark: str | None = None,
    watched: Series | None = None,
) -> bool:
    """Draw curves into a PNG, and return whether there were any."""
    if not series:
        return False
    figure = Figure(figsize=(7, 7 if watched else 4), layout='constrained')
    axes = figure.add_subplot(211 if watched else 111)
    few = label == 'metric'
    for name, values in sorted(series.items()):
        style = 'o-' if few or name.startswith('val/') else '-'
        axes.plot(list(values), list(values.values()), style, label=name, ms=4, lw=2.5 if name == mark else 1.2)
    if mark in series:
        step = max(series[mark], key=lambda step: series[mark][step])
        axes.annotate(f'{series[mark][step]:.4g}', (step, series[mark][step]), (0, 6), textcoords='offset points')
    axes.set(xlabel='iteration', ylabel=label, title=title)
    if logarithmic:
        axes.set_yscale('log')
    axes.grid(alpha=0.3)
    axes.legend(fontsize='small')
    if watched:
        below = figure.add_subplot(212, sharex=axes)
        ranks = {name: values for name, values in watched.items() if name.endswith('rank')}
        plot_watch(below, {name: values for name, values in watched.items() if name not in ranks}, ranks)
        below.set_xlabel('iteration')
    FigureCanvasAgg(figure).print_png(out)
    return True


def _parse_row(line: str) -> dict[str, Any] | None:
    """Parse a line of a log; None for half a line, which a killed run may leave."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return None
    return row if isinstance(row.get('step'), int) else None
