"""Read and draw what a run logged."""

import json
from pathlib import Path
from typing import IO, Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Series = dict[str, dict[int, float]]  # values by step by name


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
    """Draw the losses over the steps into a PNG.

    Args:
        series: What :func:`read_scalars` returns.
        out: The PNG.
        title: Heading of the curves.

    Returns:
        Whether there was anything to draw.
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


def _parse_row(line: str) -> dict[str, Any] | None:
    """Parse a line of a log; None for half a line, which a killed run may leave."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return None
    return row if isinstance(row.get('step'), int) else None
