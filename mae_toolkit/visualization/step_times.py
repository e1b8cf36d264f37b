"""Draw how long a training step takes by the share of the image that is visible."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

OURS, OTHER, PUBLISHED, GRAY = 'tab:blue', 'tab:red', 'tab:purple', '0.45'
COLUMNS = 3


def draw_step_times(results: Sequence[Mapping[str, Any]], out: Path | IO[bytes]) -> None:
    """Draw a panel per encoder into a PNG: the time of a step, relative to the dense network, over the visible share.

    A gray line shows the time in proportion to what is visible, a dashed one the dense network.

    Args:
        results: What :func:`~mae_toolkit.benchmarks.shares.benchmark_shares` returns, each with a ``name``.
        out: The PNG.
    """
    rows = -(-len(results) // COLUMNS)
    columns = min(COLUMNS, len(results))
    figure = Figure(figsize=(2.9 * columns + 0.5, 2.25 * rows + 1.0), layout='constrained', dpi=110)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    top = max([1.0, *(row['fraction'] for result in results for row in (*result['steps'], *result['references']))])
    for axes, result in zip(panels, results, strict=False):
        _draw_encoder(axes, result)
    for axes in panels[len(results) :]:
        axes.set_visible(False)
    panels[0].set(xlim=(0, 1.04), ylim=(0, 1.12 * top), xticks=(0, 0.25, 0.5, 0.75, 1))
    panels[0].xaxis.set_major_formatter(PercentFormatter(1))
    figure.supxlabel('visible share of the image', fontsize=13)
    figure.supylabel('time of a training step (dense network = 1)', fontsize=13)
    found: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    figure.legend(found.values(), found.keys(), loc='outside upper center', ncols=3, fontsize=11, frameon=False)
    FigureCanvasAgg(figure).print_png(out, metadata={'Software': None})


def _draw_encoder(axes: Axes, result: Mapping[str, Any]) -> None:
    axes.axhline(1, color=GRAY, ls='--', lw=1.3, label='dense network, whole image')
    axes.plot((0, 1), (0, 1), color='0.8', lw=1.3, label='in proportion to what is visible')
    steps = sorted(result['steps'], key=lambda step: step['share'])
    shares, fractions = ([step[key] for step in steps] for key in ('share', 'fraction'))
    axes.plot(shares, fractions, 'o-', color=OURS, lw=2, ms=5, label='this toolkit')
    for row in result['references']:
        marker = '^' if 'token' in row['name'] else 's'
        axes.plot(row['share'], row['fraction'], marker, color=OTHER, ms=7, label=row['name'])
    for row in result['published']:
        place = (row['share'], row['fraction'])
        axes.plot(*place, 'D', color=PUBLISHED, ms=7, mfc='none', mew=1.8, label='published for whole trainings')
        text = f'{row["name"]}:\n{row["claim"]}'
        axes.annotate(text, place, (24, -20), textcoords='offset points', fontsize=10, color=PUBLISHED)
    axes.set_title(f'{result["name"]} (dense: {result["dense_ms"] / 1e3:.1f} s)', fontsize=12)
    axes.tick_params(labelsize=11)
    axes.grid(alpha=0.3)
