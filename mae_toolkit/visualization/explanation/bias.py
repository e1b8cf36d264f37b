"""Draw a report of reconstruction biases: error ratios with their intervals, frequencies, and the worst images."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from mae_toolkit.evaluation.reconstruction_bias import BiasReport
from mae_toolkit.evaluation.reconstruction_bias.compare import BETTER, HARD, SAME, UNKNOWN, UNTESTED, BinComparison
from mae_toolkit.visualization.explanation.figures import render, without_math

COLORS = {UNKNOWN: '#d55e00', HARD: '#0072b2', BETTER: '#009e73', SAME: '#707070'}
NAMES = {
    UNKNOWN: UNKNOWN,
    HARD: 'hard for anyone: the interpolation fails, too',
    BETTER: 'better than in the reference',
    SAME: SAME,
}
MOST_ROWS = 16  # patterns of a family that are drawn; of more, those that differ most from 1
WIDTH, ROW, HEAD = 11.0, 0.23, 0.75  # inches
TILE = 5.1  # of one of the worst images
WIDEST = 1e4  # ratio at which the axes end at most


def draw_bias(report: BiasReport, worst: Sequence[tuple[str, np.ndarray]] = (), dpi: int = 100) -> Image.Image:
    """Draw the findings, the ratios of all patterns, the correlation with their frequency, and the worst images.

    Args:
        report: The report.
        worst: Headings and pictures (H, W, 3) uint8 of the least familiar images.
        dpi: Pixels per inch; the picture is 11 inches wide.
    """
    text = _wrap_findings(report.findings)
    panels = [_choose_rows(list(bins)) for _, bins in groupby(report.bins, key=lambda one: one.family)]
    columns = _balance([panel for panel in panels if panel])
    tile = _tile_height(worst)
    heights = {
        'text': 0.195 * (text.count('\n') + 1) + 0.25,
        'ratios': max(_column_height(column) for column in columns),
        'legend': 0.6,
        'scatter': 2.9 if report.correlation else 0.0,
        'worst': 0.4 + tile * -(-len(worst) // 2) if worst else 0.0,
    }
    height = sum(heights.values())
    figure = Figure(figsize=(WIDTH, height))
    figure.text(0.02, 1 - 0.12 / height, text, va='top', fontsize=9.5, linespacing=1.35)
    bottom = height - heights['text']
    limits = _find_limits(report.bins)
    for number, column in enumerate(columns):
        place = bottom
        for panel in column:
            place -= HEAD + ROW * len(panel)
            box = (0.2 + 0.5 * number, (place + 0.42) / height, 0.28, ROW * len(panel) / height)
            _draw_ratios(figure.add_axes(box), panel, limits)
    bottom -= heights['ratios'] + heights['legend']
    _add_legend(figure, (bottom + 0.1) / height)
    if report.correlation:
        bottom -= heights['scatter']
        _draw_frequencies(figure.add_axes((0.09, (bottom + 0.75) / height, 0.87, 1.8 / height)), report.correlation)
    if worst:
        title = 'Least familiar images: error relative to the interpolation, percentile among the reference'
        title += ' (original, masked, reconstruction, error)'
        figure.text(0.02, (bottom - 0.12) / height, title, va='top', fontsize=10, fontweight='bold')
        _draw_worst(figure, worst, bottom - 0.4, tile)
    return render(figure, dpi)


def _column_height(column: Sequence[Sequence[BinComparison]]) -> float:
    return sum(HEAD + ROW * len(panel) for panel in column)


def _tile_height(worst: Sequence[tuple[str, np.ndarray]]) -> float:
    """Return the inches that the highest picture takes at half the width, with its heading."""
    return max((TILE * picture.shape[0] / picture.shape[1] for _, picture in worst), default=0.0) + 0.35


def _add_legend(figure: Figure, bottom: float) -> None:
    """Explain the marks below the panels of ratios."""
    handles = [Line2D([], [], color=color, marker='o', lw=2, label=NAMES[verdict]) for verdict, color in COLORS.items()]
    handles.append(Line2D([], [], color='#404040', marker='d', mfc='none', lw=0, label='without the interpolation'))
    handles.append(Line2D([], [], lw=0, label='* hardly in the training: compared with all cells'))
    figure.legend(
        handles=handles, loc='lower center', bbox_to_anchor=(0.5, bottom), ncols=3, fontsize=8.5, frameon=False
    )
    x = 'error in your images / error in the reference, both relative to the interpolation'
    figure.text(0.5, bottom + 0.62 / figure.get_figheight(), x, ha='center', va='center', fontsize=9)


def _draw_worst(figure: Figure, worst: Sequence[tuple[str, np.ndarray]], top: float, tile: float) -> None:
    """Draw the least familiar images in two columns, below a height in inches."""
    height = figure.get_figheight()
    for number, (heading, picture) in enumerate(worst):
        row, column = divmod(number, 2)
        tall = TILE * picture.shape[0] / picture.shape[1]
        box = ((0.22 + 5.45 * column) / WIDTH, (top - row * tile - 0.25 - tall) / height, TILE / WIDTH, tall / height)
        axes = figure.add_axes(box)
        axes.imshow(picture, interpolation='nearest' if picture.shape[1] < 400 else 'antialiased')
        axes.set_title(without_math(_shorten(heading, 62)), loc='left', fontsize=8.5, pad=2)
        axes.set_axis_off()


def _choose_rows(bins: Sequence[BinComparison]) -> list[BinComparison]:
    """Choose the bins of a family that are drawn, in their order."""
    tested = [one for one in bins if one.verdict != UNTESTED and one.relative_ratio is not None]
    by_size = sorted(tested, key=lambda one: -abs(math.log(one.relative_ratio.value)) if one.relative_ratio else 0.0)
    chosen = {one.bin for one in by_size[:MOST_ROWS]}
    return [one for one in tested if one.bin in chosen]


def _balance(panels: Sequence[list[BinComparison]]) -> tuple[list[list[BinComparison]], list[list[BinComparison]]]:
    """Put the panels into two columns of about the same height."""
    columns: tuple[list[list[BinComparison]], list[list[BinComparison]]] = ([], [])
    heights = [0.0, 0.0]
    for panel in sorted(panels, key=len, reverse=True):
        shorter = heights.index(min(heights))
        columns[shorter].append(panel)
        heights[shorter] += ROW * len(panel) + HEAD
    return columns


def _find_limits(bins: Sequence[BinComparison]) -> tuple[float, float]:
    """Find the limits that all axes share, so that panels can be compared."""
    known = [one.relative_ratio for one in bins if one.relative_ratio is not None]
    low = min((x for one in known for x in (one.value, *one.interval)), default=0.5)
    high = max((x for one in known for x in (one.value, *one.interval)), default=2.0)
    return max(min(0.9 * low, 0.7), 1 / WIDEST), min(max(1.1 * high, 1.5), WIDEST)


def _choose_ticks(low: float, high: float) -> list[float]:
    """Choose the ticks of a logarithmic axis."""
    steps = (1, 2, 5) if high < 200 * low else (1,)
    ticks = [step * 10.0**power for power in range(-4, 5) for step in steps]
    return [x for x in ticks if low <= x <= high]


def _draw_ratios(axes: Axes, bins: Sequence[BinComparison], limits: tuple[float, float]) -> None:
    """Draw a family: a row per pattern, with both intervals of its ratio."""
    for row, one in enumerate(bins):
        ratio, color = one.relative_ratio, COLORS[one.verdict]
        assert ratio is not None
        axes.plot(ratio.corrected, (row, row), color=color, lw=1, alpha=0.6)
        axes.plot(ratio.interval, (row, row), color=color, lw=2.5, solid_capstyle='butt')
        axes.plot(ratio.value, row, 'o', color=color, ms=5)
        if one.error_ratio is not None:
            axes.plot(one.error_ratio.value, row, 'd', mec='#404040', mfc='none', ms=4.5, mew=0.9)
    axes.axvline(1, color='black', lw=0.8, zorder=0)
    axes.set_xscale('log')
    axes.set(xlim=limits, ylim=(len(bins) - 0.4, -0.6))
    ticks = _choose_ticks(*limits)
    axes.set_xticks(ticks, [f'{x:g}' for x in ticks], fontsize=8)
    axes.minorticks_off()
    axes.set_yticks(range(len(bins)), [_label(one) for one in bins], fontsize=8)
    axes.tick_params(length=2)
    axes.grid(axis='x', alpha=0.25)
    axes.spines[['top', 'right']].set_visible(False)
    axes.set_title(bins[0].family, loc='left', fontsize=10, fontweight='bold')


def _label(one: BinComparison) -> str:
    """Name a pattern, and say where the training images hardly have it."""
    name = without_math(_shorten(one.bin, 32))
    return f'{name} *' if one.is_missing else name


def _draw_frequencies(axes: Axes, correlation: Mapping[str, Any]) -> None:
    """Draw how the relative errors of patterns go with their frequency in the training."""
    least = min((one['training_share'] for one in correlation['patterns'] if one['training_share'] > 0), default=1e-4)
    shares = [max(one['training_share'], least / 3) for one in correlation['patterns']]
    axes.axhline(1, color='black', lw=0.8, zorder=0)
    errors = [one['relative_error'] for one in correlation['patterns']]
    axes.scatter(shares, errors, s=22, color='#3b528b', alpha=0.8)
    axes.set_yscale('log')
    axes.set_ylim(min(0.8, *errors) / 1.2, max(1.25, *errors) * 1.2)
    ticks = _choose_ticks(*axes.get_ylim())
    axes.set_yticks(ticks, [f'{x:g}' for x in ticks])
    axes.minorticks_off()
    low, high = correlation['interval']
    title = f'rank correlation {correlation["value"]:.2f} ({low:.2f} to {high:.2f})'
    axes.set_xscale('log')
    axes.xaxis.set_major_formatter(lambda x, _: f'{100 * x:g}%')
    axes.set_xlabel('share of the hidden cells of the training images that have a texture and color', fontsize=9)
    axes.set_ylabel('error relative to\nthe interpolation', fontsize=9)
    axes.set_title(f'frequency in the training and error in your images: {title}', loc='left', fontsize=10)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    axes.spines[['top', 'right']].set_visible(False)


def _wrap_findings(findings: Sequence[str]) -> str:
    """Break the findings into lines that fit the width."""
    lines = []
    for one in findings:
        lines += textwrap.wrap(one, 150, initial_indent='• ', subsequent_indent='   ')
    return '\n'.join(lines)


def _shorten(text: str, most: int) -> str:
    """Cut the middle out of a long text, whose end tells more than it."""
    return text if len(text) <= most else f'{text[: most // 2]}…{text[-(most // 2) + 1 :]}'
