"""Draw reconstructions under a sweep of ratios, units and maskings, and the error of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from mae_toolkit.printing import printable
from mae_toolkit.visualization.explanation.figures import render
from mae_toolkit.visualization.grid import BACKGROUND, GAP, load_font

SIDE, FONT, LINE = 150, 13, 18
DPI = 100  # of the curves
EMPTY = (235, 235, 235)
INK = (40, 40, 40)
MARKERS = 'osD^vPX*<>'


class SweepTile(NamedTuple):
    """What a model made of an image under one mask.

    Attributes:
        masked: (H, W, 3) uint8, what the model saw.
        pasted: (H, W, 3) uint8, the prediction where the image was hidden.
        error: Mean absolute error over the hidden pixels, in standard deviations of the training pixels.
        hidden: Share of the image that was hidden.
    """

    masked: np.ndarray
    pasted: np.ndarray
    error: float
    hidden: float


class SweepRow(NamedTuple):
    """An image under one masking and unit.

    Attributes:
        name: What the image is called.
        original: (H, W, 3) uint8.
        masking: Name of the masking.
        unit: Pixels per side of a cell.
        tiles: For each ratio what the model made of it, or why there is nothing.
    """

    name: str
    original: np.ndarray
    masking: str
    unit: int
    tiles: Sequence[SweepTile | str]


def draw_reconstruction_sweep(
    rows: Sequence[SweepRow],
    ratios: Sequence[float],
    curves: Mapping[str, Sequence[tuple[float, float, float]]],
    title: str,
    side: int = SIDE,
) -> Image.Image:
    """Draw a row for each image, masking and unit, two pictures for each ratio, and the curves of the error below.

    Args:
        rows: The rows, those of an image one after another.
        ratios: Shares that are hidden, one for each tile of a row.
        curves: By masking and unit: ratio, mean error over all images, and its standard deviation over images.
        title: Text above.
        side: Pixels of the longer side of each picture.
    """
    width = GAP + (1 + 2 * len(ratios)) * (side + GAP)
    parts = [_write_lines(title, width)]
    for number, row in enumerate(rows):
        if number == 0 or row.name != rows[number - 1].name:
            parts.append(_draw_headings(row.name, ratios, width, side))
        parts.append(_draw_row(row, width, side))
    if (plot := _draw_curves(curves, width)) is not None:
        parts.append(plot)
    whole = Image.new('RGB', (max(part.width for part in parts), sum(part.height for part in parts)), BACKGROUND)
    top = 0
    for part in parts:
        whole.paste(part, (0, top))
        top += part.height
    return whole


def _draw_headings(name: str, ratios: Sequence[float], width: int, side: int) -> Image.Image:
    """Draw what stands above the rows of an image: its name, and the ratios."""
    strip, font = Image.new('RGB', (width, 2 * LINE + 2 * GAP), BACKGROUND), load_font(FONT)
    draw = ImageDraw.Draw(strip)
    draw.line((GAP, GAP // 2, width - GAP, GAP // 2), fill=EMPTY, width=1)
    draw.text((GAP, GAP), printable(name), INK, font)
    for number, ratio in enumerate(ratios):
        middle = GAP + (2 * number + 2) * (side + GAP) - GAP // 2
        draw.text((middle, GAP + LINE), f'ratio {ratio:g}', (0, 0, 0), font, anchor='ma')
    return strip


def _draw_row(row: SweepRow, width: int, side: int) -> Image.Image:
    """Draw an image under one masking and unit: the original, and two pictures for each ratio."""
    height, columns = row.original.shape[:2]
    size = tuple(max(1, round(n * side / max(height, columns))) for n in (columns, height))
    strip, font = Image.new('RGB', (width, size[1] + 2 * LINE + GAP), BACKGROUND), load_font(FONT)
    draw = ImageDraw.Draw(strip)

    def put(place: int, picture: np.ndarray | None, *lines: str) -> None:
        left = GAP + place * (side + GAP)
        if picture is not None:
            resized = Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC)
            strip.paste(resized, (left + (side - size[0]) // 2, 0))
        for number, line in enumerate(lines):
            draw.text((left + side // 2, size[1] + 2 + number * LINE), line, (0, 0, 0), font, anchor='ma')

    put(0, row.original, row.masking, f'unit {row.unit}')
    for number, tile in enumerate(row.tiles):
        if isinstance(tile, str):
            strip.paste(
                _write_lines(f'Left out. {tile}', 2 * side + GAP, EMPTY), (GAP + (2 * number + 1) * (side + GAP), 0)
            )
        else:
            put(2 * number + 1, tile.masked, f'{tile.hidden:.0%} hidden')
            put(2 * number + 2, tile.pasted, f'error {tile.error:.3f}')
    return strip


def _draw_curves(curves: Mapping[str, Sequence[tuple[float, float, float]]], width: int) -> Image.Image | None:
    """Draw the error over the ratio; None if there is none."""
    drawn = {name: points for name, points in curves.items() if points}
    if not drawn:
        return None
    figure = Figure(figsize=(min(width, 900) / DPI, 3.8), layout='constrained')
    axes = figure.add_subplot()
    for number, (name, points) in enumerate(drawn.items()):
        ratio, mean, spread = (list(values) for values in zip(*points, strict=True))
        shift = 0.003 * (number - (len(drawn) - 1) / 2)  # so that bars do not hide each other
        marker = MARKERS[number % len(MARKERS)]
        axes.errorbar([r + shift for r in ratio], mean, spread, marker=marker, ms=5, lw=1.3, capsize=3, label=name)
    axes.set(xlabel='share that is hidden', ylabel='error (standard deviations)')
    axes.set_title('mean over all images, with the standard deviation over images', fontsize=10)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize='small')
    return render(figure, DPI)


def _write_lines(text: str, width: int, background: tuple[int, int, int] = BACKGROUND) -> Image.Image:
    """Write a text in as many lines as it takes."""
    font, lines = load_font(FONT), ['']
    for word in printable(text).split():
        if lines[-1] and font.getlength(f'{lines[-1]} {word}') > width - 2 * GAP:
            lines.append('')
        lines[-1] = f'{lines[-1]} {word}'.strip()
    picture = Image.new('RGB', (width, LINE * len(lines) + 2 * GAP), background)
    for number, line in enumerate(lines):
        ImageDraw.Draw(picture).text((GAP, GAP + number * LINE), line, INK, font)
    return picture
