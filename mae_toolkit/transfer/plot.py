"""The plot of a table: a panel per task, the fraction of the labels on x."""

from math import ceil
from pathlib import Path
from typing import IO, Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mae_toolkit.transfer.experiment import Experiment
from mae_toolkit.transfer.summary import Table, list_columns
from mae_toolkit.transfer.tasks import Task

MARKERS = 'osD^vPX*'
LETTER, HANDLE = 0.085, 0.7  # inches of a letter in a legend, and of the line before its name
SPREAD = 0.03  # between the points of neighboring encoders at one fraction of the labels, as a part of it


def draw_table(experiment: Experiment, table: Table, families: dict[str, str], out: Path | IO[bytes]) -> None:
    """Draw the first metric of every task into a PNG: mean and standard deviation over seeds.

    Each family of encoders has a color; lines are dashed and points hollow for encoders from scratch.

    Args:
        experiment: What was asked for.
        table: See :func:`~mae_toolkit.transfer.summary.make_cells`.
        families: Family by the name of the encoder.
        out: The PNG.
    """
    styles = style_encoders(experiment, families)
    count = len(experiment.tasks)
    width = 1 + 4.2 * count
    in_row = count_legend_columns(styles, width)
    figure = Figure(figsize=(width, 4.2 + 0.22 * ceil(len(styles) / in_row)), layout='constrained', dpi=110)
    panels = figure.subplots(1, count, squeeze=False)[0]
    for axes, task in zip(panels, experiment.tasks, strict=True):
        shown = [c for c in list_columns(experiment) if c.task == task.name and c.metric == task.metrics[0]]
        for i, entry in enumerate(experiment.encoders):
            found = [(c.label_fraction, table[entry.name, c]) for c in shown if table[entry.name, c].values]
            aside = 1 + SPREAD * (i - (len(experiment.encoders) - 1) / 2)
            x = [100 * fraction * aside for fraction, _ in found]
            spread = [cell.std or 0 for _, cell in found]
            axes.errorbar(x, [cell.mean for _, cell in found], spread, capsize=3, ms=5, lw=1.4, **styles[entry.name])
        _label(axes, experiment, task)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside lower center', ncols=in_row, frameon=False)
    FigureCanvasAgg(figure).print_png(out, metadata={'Software': None})


def _label(axes: Axes, experiment: Experiment, task: Task) -> None:
    """Set the scales, the labels and the title of a panel."""
    percents = [100 * fraction for fraction in sorted(experiment.label_fractions)]
    axes.set_xscale('log')
    axes.set_xticks(percents, [f'{percent:g}%' for percent in percents])
    axes.minorticks_off()
    axes.set_xlim(percents[0] / 1.35, percents[-1] * 1.35)
    axes.set(title=escape_name(task.name), xlabel='labels', ylabel=escape_name(task.metrics[0].name))
    axes.grid(alpha=0.3)


def style_encoders(experiment: Experiment, families: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Choose colors by family, lines by pretraining, and markers by the place among those of one family and line.

    Where there is one family only, each encoder has a color of its own.

    Returns:
        Matplotlib's properties of a line by the name of the encoder, in the order of the experiment.
    """
    if len(set(families.values())) == 1:
        families = {name: name for name in families}
    names = list(dict.fromkeys(families.values()))
    palette = colormaps['tab10' if len(names) <= 10 else 'tab20']
    colors = {name: palette(i % palette.N) for i, name in enumerate(names)}
    styles: dict[str, dict[str, Any]] = {}
    used: dict[tuple[str, bool], int] = {}
    for entry in experiment.encoders:
        key = families[entry.name], entry.pretrained
        place = used[key] = used.get(key, -1) + 1
        styles[entry.name] = {
            'color': colors[key[0]],
            'linestyle': '-' if entry.pretrained else '--',
            'marker': MARKERS[place % len(MARKERS)],
            'markerfacecolor': colors[key[0]] if entry.pretrained else 'white',
            'label': escape_name(entry.name),
        }
    return styles


def count_legend_columns(styles: dict[str, dict[str, Any]], width: float) -> int:
    """Return into how many columns of a legend the names of encoders fit, four at most.

    Args:
        styles: See :func:`style_encoders`.
        width: Inches of the figure.
    """
    longest = max(len(style['label']) for style in styles.values())
    return max(1, min(4, len(styles), int(width / (LETTER * longest + HANDLE))))


def escape_name(name: str) -> str:
    """Change a name so that Matplotlib finds no formula in it, and the legend does not leave it out."""
    name = name.replace('$', r'\$')
    return f' {name}' if name.startswith('_') else name
