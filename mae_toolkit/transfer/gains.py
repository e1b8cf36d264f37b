"""The plot of what pretraining is worth: every encoder of a table from scratch and pretrained, task by task."""

import csv
from pathlib import Path
from typing import NamedTuple

from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mae_toolkit.errors import UserError


class Gain(NamedTuple):
    """The first metric of a task for one encoder, in the units of the table.

    Attributes:
        encoder: Name of the encoder without its pretraining.
        scratch: Mean over the seeds, and their standard deviation, from random weights.
        pretrained: The same from the checkpoint.
    """

    encoder: str
    scratch: tuple[float, float]
    pretrained: tuple[float, float]


def read_gains(table: Path | str, label_fraction: float) -> dict[tuple[str, str], list[Gain]]:
    """Pair the rows ``NAME`` and ``NAME, METHOD`` of a ``table.csv``.

    Args:
        table: The file, as ``tools/transfer.py table`` writes it.
        label_fraction: Fraction of the labels whose results are read.

    Returns:
        Gains by (task, metric), in the order of the file; the first metric of each task only.

    Raises:
        UserError: If the file has no such pair.
    """
    try:
        rows = list(csv.DictReader(Path(table).read_text(encoding='utf-8').splitlines()))
    except OSError as error:
        raise UserError(f'{table} cannot be read ({error.strerror}): name a folder with a table.csv.') from None
    rows = [row for row in rows if float(row['labels']) == label_fraction]
    metrics: dict[str, str] = {}
    for row in rows:
        metrics.setdefault(row['task'], row['metric'])
    values = {
        (row['encoder'], row['task']): (float(row['mean']), float(row['std'] or 0))
        for row in rows
        if row['metric'] == metrics[row['task']]
    }
    gains: dict[tuple[str, str], list[Gain]] = {}
    for (encoder, task), pretrained in values.items():
        name = encoder.partition(', ')[0]
        if name != encoder and (name, task) in values:
            gains.setdefault((task, metrics[task]), []).append(Gain(name, values[name, task], pretrained))
    if not gains:
        raise UserError(
            f'{table} has no encoder "NAME" beside "NAME, METHOD" with the fraction {label_fraction:g} of the labels.'
        )
    return gains


def draw_gains(gains: dict[tuple[str, str], list[Gain]], out: Path | str) -> None:
    """Draw one panel per task into a PNG: an arrow per encoder, from its mean from scratch to its mean pretrained."""
    rows = max(map(len, gains.values()))
    figure = Figure(figsize=(3.3 * len(gains), 1.1 + 0.42 * rows), layout='constrained', dpi=110)
    panels = figure.subplots(1, len(gains), squeeze=False, sharey=True)[0]
    for axes, ((task, metric), found) in zip(panels, gains.items(), strict=True):
        for y, gain in enumerate(found):
            color = colormaps['tab10'](y % 10)
            (before, spread), (after, spread_after) = gain.scratch, gain.pretrained
            axes.annotate('', (after, y), (before, y), arrowprops={'arrowstyle': '-|>', 'color': color, 'lw': 2})
            axes.errorbar(before, y, xerr=spread, fmt='o', mfc='white', color=color, capsize=3, lw=1, zorder=3)
            axes.errorbar(after, y, xerr=spread_after, fmt='o', color=color, capsize=3, lw=1, zorder=3)
        axes.set(title=task, xlabel=metric, yticks=range(len(found)), yticklabels=[gain.encoder for gain in found])
        axes.grid(axis='x', alpha=0.3)
        axes.set_ylim(len(found) - 0.5, -0.5)
    FigureCanvasAgg(figure).print_png(out, metadata={'Software': None})
