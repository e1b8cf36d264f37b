"""Draw boxes of several detectors on the same images, beside those that were labeled."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from mae_toolkit.visualization.grid import make_picture_grid, resize
from mae_toolkit.visualization.predictions import Color, add_legend

SIDE = 320  # pixels of the longer side of each picture
FONT = 22  # of the headings, readable where the whole picture is as wide as a phone


class Boxes(NamedTuple):
    """Boxes in one image.

    Attributes:
        boxes: (N, 4), left, top, right and bottom in pixels of the image.
        labels: (N,), the numbers of the classes.
    """

    boxes: np.ndarray
    labels: np.ndarray


def draw_compared_boxes(
    pictures: Sequence[np.ndarray],
    columns: Mapping[str, Sequence[Boxes]],
    classes: Sequence[str],
    colors: Sequence[Color],
    side: int = SIDE,
) -> Image.Image:
    """Draw a row per image and a column per detector, with a legend of the classes below.

    Args:
        pictures: (H, W, 3) uint8 each.
        columns: By the heading of the column, the boxes in each picture.
        classes: Names by number.
        colors: Colors of the classes.
        side: Pixels of the longer side of each picture.
    """
    rows = [
        [_draw_boxes(picture, boxes, colors, side) for boxes in row]
        for picture, *row in zip(pictures, *columns.values(), strict=True)
    ]
    sheet = make_picture_grid(rows, list(columns), font_size=FONT)
    return add_legend(sheet, dict(zip(classes, colors, strict=True)))


def _draw_boxes(picture: np.ndarray, found: Boxes, colors: Sequence[Color], side: int) -> np.ndarray:
    shown = resize(picture, side)
    scale = np.array([shown.width / picture.shape[1], shown.height / picture.shape[0]] * 2)
    draw = ImageDraw.Draw(shown)
    for box, label in reversed(list(zip(found.boxes * scale, found.labels, strict=True))):
        draw.rectangle(tuple(map(float, box)), outline=colors[int(label)], width=max(2, side // 160))
    return np.asarray(shown)
