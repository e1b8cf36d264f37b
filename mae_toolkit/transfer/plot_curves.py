"""The plot of the validation during training: whether the runs of a table were long enough."""

from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import IO, Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mae_toolkit.transfer.experiment import Experiment
from mae_toolkit.transfer.plot import count_legend_columns, escape_name, style_encoders
from mae_toolkit.transfer.run_records import RunResult
from mae_toolkit.transfer.summary import Column, list_columns

Scalars = Mapping[str, Any]  # what one run logged: {'run': its id, 'val/coco/bbox_mAP': {'steps': [], 'values': []}}
Curve = dict[int, float]  # value by step


def draw_curves(
    experiment: Experiment,
    results: Iterable[RunResult],
    scalars: Iterable[Scalars],
    families: dict[str, str],
    out: Path | IO[bytes],
) -> bool:
    """Draw every metric on the validation split over the training into a PNG.

    A panel per metric and fraction of the labels; a thin line per seed, and a thick one for their mean.

    Args:
        experiment: What was asked for.
        results: Results of its runs.
        scalars: What each of them logged.
        families: Family by the name of the encoder.
        out: The PNG.

    Returns:
        Whether there was anything to draw: a task need not validate while it trains.
    """
    curves = collect_curves(experiment, results, scalars)
    columns = [column for column in list_columns(experiment) if any(key[1] == column for key in curves)]
    if not columns:
        return False
    metrics = list(dict.fromkeys((column.task, column.metric) for column in columns))
    fractions = sorted({column.label_fraction for column in columns}, reverse=True)
    styles = style_encoders(experiment, families)
    width = 1 + 4.2 * max(2, len(fractions))
    in_row = count_legend_columns(styles, width)
    height = 0.8 + 3 * len(metrics) + 0.22 * ceil(len(styles) / in_row)
    figure = Figure(figsize=(width, height), layout='constrained', dpi=110)
    grid = figure.subplots(len(metrics), len(fractions), squeeze=False)
    for column in columns:
        axes = grid[metrics.index((column.task, column.metric))][fractions.index(column.label_fraction)]
        for name, style in styles.items():
            _draw_seeds(axes, curves.get((name, column), []), style)
        _label(axes, column)
    handles = {label: line for axes in grid.flat for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, loc='outside lower center', ncols=in_row, frameon=False)
    FigureCanvasAgg(figure).print_png(out, metadata={'Software': None})
    return True


def collect_curves(
    experiment: Experiment, results: Iterable[RunResult], scalars: Iterable[Scalars]
) -> dict[tuple[str, Column], list[Curve]]:
    """Collect how each metric of a table went on the validation split.

    Returns:
        By encoder and column, a curve for each seed; only of runs that validated while they trained.
    """
    logged = {run['run']: run for run in scalars}
    curves: dict[tuple[str, Column], list[Curve]] = {}
    for result in results:
        for column in list_columns(experiment):
            if (column.task, column.label_fraction) != (result.task, result.label_fraction):
                continue
            series = logged.get(result.id, {}).get(f'val/{column.metric.key}')
            if series:
                values = [column.metric.scale * value for value in series['values']]
                curve = dict(zip(series['steps'], values, strict=True))
                curves.setdefault((result.encoder, column), []).append(curve)
    return curves


def _draw_seeds(axes: Axes, curves: Sequence[Curve], style: Mapping[str, Any]) -> None:
    """Draw the curves of one encoder: a thin line for each seed, a thick one for the mean of the steps they share."""
    if not curves:
        return
    line = {key: style[key] for key in ('color', 'linestyle')}
    if len(curves) > 1:
        for curve in curves:
            axes.plot(list(curve), list(curve.values()), lw=0.7, alpha=0.4, **line)
    shared = sorted(set.intersection(*(set(curve) for curve in curves)))
    means = [sum(curve[step] for curve in curves) / len(curves) for step in shared]
    axes.plot(shared, means, lw=1.8, marker=style['marker'], ms=3.5, label=style['label'], **line)


def _label(axes: Axes, column: Column) -> None:
    axes.set(
        title=f'{escape_name(column.task)}, {100 * column.label_fraction:g}% of the labels',
        xlabel='step',
        ylabel=f'{escape_name(column.metric.name)}, validation split',
    )
    axes.grid(alpha=0.3)
