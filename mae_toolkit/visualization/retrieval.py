"""Sheets of images: what is similar to an image and where, pairs that show the same, the members of a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from matplotlib import colormaps
from PIL import Image, ImageDraw, ImageFont

from mae_toolkit.printing import printable
from mae_toolkit.visualization.grid import BACKGROUND, GAP, load_font

SIDE = 224  # pixels of a cell
HEAT = 0.55  # share of the color over a picture
OUTLINE = (255, 64, 0)
FONT_SIZE = 12


class Cell(NamedTuple):
    """A picture of a sheet, with lines below it.

    Attributes:
        picture: (H, W, 3) uint8 of any size.
        lines: Text; what is too long loses its beginning, as names differ at the end.
    """

    picture: np.ndarray
    lines: Sequence[str] = ()


def to_picture(image: np.ndarray) -> np.ndarray:
    """Convert an image (H, W, C) of any channels and type to a picture (H, W, 3) uint8.

    Bytes stay as they are; other numbers are stretched from the 1st to the 99th percentile.
    """
    image = image[..., :3] if image.shape[2] >= 3 else image[..., :1]
    if image.dtype != np.uint8:
        low, high = np.percentile(image, (1, 99))
        image = ((image.astype(np.float64) - low) * (255 / max(high - low, 1e-12))).clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)))


def overlay_heat(picture: np.ndarray, heat: np.ndarray, low: float, high: float) -> np.ndarray:
    """Draw a map over a picture, from blue (low) to yellow (high).

    Args:
        picture: (H, W, 3) uint8.
        heat: (h, w), one value per patch.
        low: The value of the first color.
        high: The value of the last color.
    """
    height, width = picture.shape[:2]
    enlarged = cv2.resize(heat.astype(np.float32), (width, height), interpolation=cv2.INTER_NEAREST)
    colors = colormaps['plasma']((enlarged - low) / max(high - low, 1e-12))[..., :3] * 255
    gray = picture.mean(axis=2, keepdims=True)
    return (gray * (1 - HEAT) + colors * HEAT).round().astype(np.uint8)


def outline(picture: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Draw the outline of a region on a picture (H, W, 3).

    Args:
        picture: The picture.
        corners: (N, 2), x and y in parts of the picture's width and height.
    """
    drawn = picture.copy()
    points = (corners * (picture.shape[1], picture.shape[0])).round().astype(np.int32)
    cv2.polylines(drawn, [points.reshape(-1, 1, 2)], True, OUTLINE, max(1, round(max(picture.shape) / 100)))
    return drawn


def draw_sheet(rows: Sequence[Sequence[Cell]], title: str = '', side: int = SIDE) -> Image.Image:
    """Draw a sheet of pictures with lines below each.

    Args:
        rows: The cells; a row may be shorter than others.
        title: Text above all, in lines.
        side: Pixels of the longer side of each picture.
    """
    font = load_font(FONT_SIZE)
    line, step = round(FONT_SIZE * 1.4), side + GAP
    width = GAP + step * max(len(row) for row in rows)
    lines = [part for text in title.splitlines() for part in _break(printable(text), font, width - 2 * GAP)]
    heights = [side + GAP + line * max(len(cell.lines) for cell in row) for row in rows]
    sheet = Image.new('RGB', (width, GAP * 2 + line * len(lines) + sum(heights) + GAP * len(rows)), BACKGROUND)
    draw, y = ImageDraw.Draw(sheet), GAP
    for text in lines:
        draw.text((GAP, y), text, (0, 0, 0), font)
        y += line
    y += GAP
    for row, height in zip(rows, heights, strict=True):
        for column, cell in enumerate(row):
            _draw_cell(sheet, draw, cell, (GAP + column * step, y), side, font)
        y += height + GAP
    return sheet


def _draw_cell(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    cell: Cell,
    corner: tuple[int, int],
    side: int,
    font: ImageFont.FreeTypeFont,
) -> None:
    picture = Image.fromarray(cell.picture)
    scale = side / max(picture.size)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    shown = picture.resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC)
    sheet.paste(shown, (corner[0] + (side - size[0]) // 2, corner[1] + (side - size[1]) // 2))
    for number, text in enumerate(cell.lines):
        place = corner[0], corner[1] + side + round(number * FONT_SIZE * 1.4) + 2
        draw.text(place, _keep_end(printable(text), font, side), (0, 0, 0), font)


def _keep_end(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """Return the end of a text that fits a width."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f'…{text}') > width:
        text = text[1:]
    return f'…{text}'


def _break(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Break a text at spaces into lines of a width."""
    lines = ['']
    for word in text.split():
        if lines[-1] and font.getlength(f'{lines[-1]} {word}') > width:
            lines.append('')
        lines[-1] = f'{lines[-1]} {word}'.strip()
    return lines
