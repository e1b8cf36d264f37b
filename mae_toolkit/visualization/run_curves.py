"""Draw values of several runs over each other."""

from collections.abc import Sequence
from pathlib import Path
from typing import IO

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mae_toolkit.visualization.run_logs import RunLog, find_keys, smooth

STEEP = 5  # from this ratio of the greatest to the least value on, a loss is drawn on a logarithmic axis
FEW = 30  # up to so many values, each has a dot, and they are not smoothed


def draw_runs(
    logs: Sequence[RunLog],
    keys: Sequence[str],
    out: Path | IO[bytes],
    axis: str = 'iterations',
    weight: float = 0.0,
) -> None:
    """Draw a plot per key with a curve per run into a PNG.

    Args:
        logs: The runs.
        keys: What is drawn, see :meth:`~mae_toolkit.visualization.run_logs.RunLog.find_key`.
        out: The PNG.
        axis: ``'iterations'``, ``'epochs'`` or ``'hours'``.
        weight: Weight of what came before in the smoothed curves, see
            :func:`~mae_toolkit.visualization.run_logs.smooth`; what was logged is drawn pale behind them.

    Raises:
        UserError: If no run has a key, or one did not log what the axis needs.
    """
    found = [find_keys(logs, key) for key in keys]
    columns = min(len(keys), 2)
    rows = -(-len(keys) // columns)
    figure = Figure(figsize=(7 * columns, 4 * rows + 0.3), layout='constrained')
    handles: dict[str, Line2D] = {}
    first = None
    for place, (key, names) in enumerate(zip(keys, found, strict=True), 1):
        axes = figure.add_subplot(rows, columns, place, sharex=first)
        first = first or axes
        drawn: list[float] = []
        for number, log in enumerate(logs):
            if log.name not in names:
                continue
            values = dict(sorted(log.series[names[log.name]].items()))
            x, y = log.convert_steps(list(values), axis), list(values.values())
            color = f'C{number % 10}'
            is_smoothed = weight > 0 and len(y) > FEW
            if is_smoothed:
                axes.plot(x, y, color=color, alpha=0.2, lw=1)
            curve = smooth(y, weight) if is_smoothed else y
            style = 'o-' if len(y) <= FEW else '-'
            (line,) = axes.plot(x, curve, style, color=color, ms=3.5, lw=1.5, label=log.name)
            handles.setdefault(log.name, line)
            drawn += y
        if 'loss' in key and min(drawn) > 0 and max(drawn) > STEEP * min(drawn):
            axes.set_yscale('log')
        only = set(names.values())
        axes.set(xlabel=axis, ylabel=only.pop() if len(only) == 1 else key)
        axes.grid(alpha=0.3, which='both')
    figure.legend(list(handles.values()), list(handles), loc='outside upper center', ncols=3, fontsize='small')
    FigureCanvasAgg(figure).print_png(out)
