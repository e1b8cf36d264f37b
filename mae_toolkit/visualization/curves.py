"""Curves of what a run logged."""

import json
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def read_scalars(work_dir):
    """Scalars of all runs in a work directory, in the order of their starts; a resumed run replaces later steps.

    Returns:
        dict[str, dict[int, float]]: value by step by name.
    """
    series = {}
    for path in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        rows = [row for line in path.read_text().splitlines() if (row := _row(line))]
        first = min((row['step'] for row in rows), default=0)
        for values in series.values():
            for step in [s for s in values if s >= first]:
                del values[step]
        for row in rows:
            for name, value in row.items():
                if name != 'step' and isinstance(value, int | float):
                    series.setdefault(name, {})[row['step']] = value
    return series


def draw_losses(series, out, title=''):
    """Draw the losses over the steps into a PNG.

    Args:
        series (dict[str, dict[int, float]]): As of :func:`read_scalars`.
        out (Path): The PNG.
        title (str): Above the curves.

    Returns:
        bool: Whether there was anything to draw.
    """
    losses = {n: v for n, v in series.items() if 'loss' in n and v}
    for stage in ('train', 'val'):
        if sum(n.startswith(f'{stage}/loss_') for n in losses) == 1:  # the sum equals its only part
            losses.pop(f'{stage}/loss', None)
    if not losses:
        return False
    figure = Figure(figsize=(7, 4), layout='constrained')
    axes = figure.add_subplot()
    for name, values in sorted(losses.items()):
        axes.plot(list(values), list(values.values()), 'o-' if name.startswith('val/') else '-', label=name, ms=4)
    axes.set(xlabel='iteration', ylabel='loss', title=title)
    lowest, highest = (f(v for values in losses.values() for v in values.values()) for f in (min, max))
    if 0 < lowest < highest / 5:  # a steep start would flatten the rest
        axes.set_yscale('log')
    axes.grid(alpha=0.3)
    axes.legend()
    FigureCanvasAgg(figure).print_png(out)
    return True


def _row(line):
    """One line of a log, or None: a killed run may leave half a line."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return None
    return row if isinstance(row.get('step'), int) else None
