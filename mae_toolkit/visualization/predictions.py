"""Draw what detectors, segmenters and classifiers predict on the picture, with a legend below it.

The visualizers of MMDetection and MMSegmentation are not used: they have no legend with counts or fractions, write
names over each other, and darken the pixels of a black class, as the background is. In a picture of 640 x 480 pixels,
50 boxes take them 147 ms, and 8 ms here; boxes with masks 462 ms, and 25 ms; the classes of all pixels 37 ms, and 5 ms.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import ceil
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mae_toolkit.visualization.grid import BACKGROUND, GAP, load_font, resize

LEAST = 512  # pixels of the longer side up to which a small picture is enlarged, by a whole number
NARROWEST = 320  # pixels of a legend; below a narrower picture there would be no room for names
FEW = 30  # objects up to which each gets a name; of more, only those get one that are as wide as it
TINT = 0.4  # share of the color of a class over what it covers

Color = tuple[int, int, int]  # red, green, blue
Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels


class Objects(NamedTuple):
    """Objects that a detector found in one image, the surest first.

    Attributes:
        boxes: (N, 4) float32: left, top, right and bottom in pixels of the image.
        scores: (N,) float32.
        labels: (N,) int64, the numbers of the classes.
        masks: (N, H, W) bool; None from a detector without masks.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None


@lru_cache
def choose_colors(count: int) -> tuple[Color, ...]:
    """Choose colors, each as far as possible in CIELAB from those before and from black, gray and white; none is dark.

    Args:
        count: Number of colors; beyond some hundreds they come again.
    """
    levels = np.arange(0, 256, 17, dtype=np.uint8)
    candidates = np.stack(np.meshgrid(levels, levels, levels, indexing='ij'), -1).reshape(-1, 3)
    lab = cv2.cvtColor(candidates[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]  # L 0 to 100
    vivid = (np.linalg.norm(lab[:, 1:], axis=1) > 50) & (lab[:, 0] > 55) & (lab[:, 0] < 92)
    candidates, lab = candidates[vivid], lab[vivid]
    grays = np.stack([np.array([lightness, 0, 0], np.float32) for lightness in (0, 50, 100)])
    distance = np.linalg.norm(lab[:, None] - grays, axis=-1).min(1)
    chosen = []
    for _ in range(min(count, len(lab))):
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(lab - lab[chosen[-1]], axis=1))
    colors = (candidates[chosen[i % len(chosen)]] for i in range(count))
    return tuple((int(red), int(green), int(blue)) for red, green, blue in colors)


def draw_objects(
    picture: np.ndarray, objects: Objects, classes: Sequence[str], colors: Sequence[Color], side: int | None = None
) -> Image.Image:
    """Draw boxes, or masks where there are any, with names and scores where there is room, and a legend with counts.

    Args:
        picture: (H, W, 3) uint8.
        objects: What was found, in the pixels of the picture.
        classes: Names by number.
        colors: Colors of the classes.
        side: Pixels of the longer side; if None, a small picture is enlarged.
    """
    shown = enlarge(picture, side)
    scale = np.array([shown.width / picture.shape[1], shown.height / picture.shape[0]] * 2)
    font = _font(shown)
    line = max(1, round(max(shown.size) / 640))
    if objects.masks is not None:
        pixels = np.array(shown)
        for mask, label in reversed(list(zip(objects.masks, objects.labels, strict=True))):
            tint(pixels, mask, colors[label], line)
        shown = Image.fromarray(pixels)
    draw = ImageDraw.Draw(shown)
    boxes: list[Any] = [tuple(map(float, box)) for box in objects.boxes * scale]
    if objects.masks is None:
        for box, label in reversed(list(zip(boxes, objects.labels, strict=True))):
            draw.rectangle(box, outline=colors[label], width=2 * line)
    _write_names(draw, boxes, objects, classes, colors, font)
    counts = [(label, int((objects.labels == label).sum())) for label in np.unique(objects.labels)]
    entries = [(f'{classes[label]}: {count}', colors[label]) for label, count in counts]
    return _put_above(shown, _legend(entries or [('nothing found', None)], max(shown.width, NARROWEST), font))


def draw_labels(
    picture: np.ndarray, labels: np.ndarray, classes: Sequence[str], colors: Sequence[Color], side: int | None = None
) -> Image.Image:
    """Draw the class of every pixel as a tint with a line around it, and a legend with the fraction of each class.

    Black classes, as the background is, leave the picture as it is.

    Args:
        picture: (H, W, 3) uint8.
        labels: (H, W), the numbers of the classes.
        classes: Names by number.
        colors: Colors of the classes.
        side: Pixels of the longer side; if None, a small picture is enlarged.
    """
    shown = enlarge(picture, side)
    line = max(1, round(max(shown.size) / 640))
    pixels = np.array(shown)
    there, counts = np.unique(labels, return_counts=True)
    for label in there:
        if any(colors[label]):
            tint(pixels, labels == label, colors[label], line)
    shown = Image.fromarray(pixels)
    order = np.argsort(-counts, kind='stable')
    entries = [(f'{classes[there[i]]} {counts[i] / labels.size:.1%}', colors[there[i]]) for i in order]
    return _put_above(shown, _legend(entries, max(shown.width, NARROWEST), _font(shown)))


def draw_classes(
    picture: np.ndarray, names: Sequence[str], probabilities: Sequence[float], side: int | None = None
) -> Image.Image:
    """Draw bars of the likeliest classes, one below the other, below the picture.

    Args:
        picture: (H, W, 3) uint8.
        names: Names of the classes to show.
        probabilities: Their probabilities.
        side: Pixels of the longer side; if None, a small picture is enlarged.
    """
    shown = enlarge(picture, side)
    font = _font(shown)
    width, height = max(shown.width, NARROWEST), round(font.size * 1.6)
    strip = Image.new('RGB', (width, height * len(names) + GAP), BACKGROUND)
    draw = ImageDraw.Draw(strip)
    number = ceil(font.getlength('100.0%'))
    room = (width - number - 4 * GAP) // 2  # half for names, half for bars
    for i, (name, probability) in enumerate(zip(names, probabilities, strict=True)):
        middle = GAP // 2 + height * (i + 0.5)
        draw.text((GAP, middle), _shorten(name, font, room), (0, 0, 0), font, anchor='lm')
        left, reach = 2 * GAP + room, round(room * min(1, max(0, probability)))
        bar = (left, middle - font.size * 0.4, left + max(1, reach), middle + font.size * 0.4)
        draw.rectangle(bar, fill=(70, 120, 200) if i == 0 else (170, 190, 220))
        draw.text((width - GAP, middle), f'{probability:.1%}', (0, 0, 0), font, anchor='rm')
    return _put_above(shown, strip)


def enlarge(picture: np.ndarray, side: int | None = None) -> Image.Image:
    """Resize a picture (H, W, 3) to so many pixels of its longer side, or, if None, so that one can write on it."""
    longest = max(picture.shape[:2])
    return resize(picture, side or longest * max(1, ceil(LEAST / longest)))


def _font(shown: Image.Image) -> ImageFont.FreeTypeFont:
    return load_font(max(12, round(max(shown.size) / 45)))


def tint(pixels: np.ndarray, mask: np.ndarray, color: Color, line: int) -> None:
    """Tint a picture, in place, where a mask is true, with a line along its border.

    Args:
        pixels: (H, W, 3) uint8.
        mask: (h, w), which is resized to the size of the picture.
        color: Color of the tint and of the line.
        line: Pixels of the line.
    """
    mask = cv2.resize(mask.astype(np.uint8), pixels.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    left, top, width, height = cv2.boundingRect(mask)
    if not width:
        return
    part = (slice(top, top + height), slice(left, left + width))
    inside = mask[part] > 0
    kernel = np.ones((2 * line + 1, 2 * line + 1), np.uint8)
    core = cv2.erode(np.pad(mask[part], line), kernel)[line:-line, line:-line] > 0
    weight = np.where(inside & ~core, 1.0, np.where(inside, TINT, 0.0)).astype(np.float32)[..., None]
    region = pixels[part].astype(np.float32)
    pixels[part] = (region * (1 - weight) + np.array(color, np.float32) * weight).round().astype(np.uint8)


def _write_names(
    draw: ImageDraw.ImageDraw,
    boxes: Sequence[Box],
    objects: Objects,
    classes: Sequence[str],
    colors: Sequence[Color],
    font: ImageFont.FreeTypeFont,
) -> None:
    """Write name and score at each box, the surest first: above, within or below it, or the score alone, or nothing."""
    taken: list[Box] = []
    limits = draw.im.size
    for box, score, label in zip(boxes, objects.scores, objects.labels, strict=True):
        for text in (f'{classes[label]} {score:.2f}', f'{score:.2f}'):
            if len(boxes) > FEW and font.getlength(text) > box[2] - box[0]:
                continue
            place = next((p for p in _places(box, text, font, limits) if not any(_overlap(p, t) for t in taken)), None)
            if place:
                taken.append(place)
                draw.rectangle(place, fill=colors[label])
                draw.text((place[0] + 2, place[1] + 1), text, _readable(colors[label]), font, anchor='la')
                break


def _places(box: Box, text: str, font: ImageFont.FreeTypeFont, limits: tuple[int, int]) -> list[Box]:
    """List where a text of one line may stand at a box, within a picture of (width, height)."""
    width, height = ceil(font.getlength(text)) + 4, round(font.size * 1.2) + 2
    left = max(0, min(box[0], limits[0] - width))
    tops = (box[1] - height, box[1], box[3])
    return [(left, top, left + width, top + height) for top in tops if 0 <= top <= limits[1] - height]


def add_legend(picture: Image.Image, colors: Mapping[str, Color]) -> Image.Image:
    """Put a legend of classes below a picture; black ones, which are not drawn, are left out.

    Args:
        picture: The picture.
        colors: Color of each class by its name.
    """
    entries = [(name, color) for name, color in colors.items() if any(color)]
    if not entries:
        return picture
    return _put_above(picture, _legend(entries, max(picture.width, NARROWEST), _font(picture)))


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _readable(color: Color) -> Color:
    """Return black or white, whichever is seen better on a color."""
    return (0, 0, 0) if np.dot(color, (0.299, 0.587, 0.114)) > 140 else (255, 255, 255)


def _legend(entries: Sequence[tuple[str, Color | None]], width: int, font: ImageFont.FreeTypeFont) -> Image.Image:
    """Draw a strip with a square of color before each text, in as many lines as it takes."""
    square, height = round(font.size * 0.8), round(font.size * 1.6)
    places, x, y = [], GAP, 0
    for text, _ in entries:
        text = _shorten(text, font, width - square - 3 * GAP)
        needed = square + GAP + ceil(font.getlength(text))
        if x > GAP and x + needed > width - GAP:
            x, y = GAP, y + height
        places.append((text, x, y))
        x += needed + 3 * GAP
    strip = Image.new('RGB', (width, y + height + GAP), BACKGROUND)
    draw = ImageDraw.Draw(strip)
    for (text, x, y), (_, color) in zip(places, entries, strict=True):
        middle = y + GAP / 2 + height / 2
        if color is not None:
            draw.rectangle((x, middle - square / 2, x + square, middle + square / 2), fill=color)
        draw.text((x + square + GAP, middle), text, (0, 0, 0), font, anchor='lm')
    return strip


def _shorten(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """Shorten a text so that it fits into a width, with an ellipsis where some is left out."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f'{text}…') > width:
        text = text[:-1]
    return f'{text}…'


def _put_above(shown: Image.Image, strip: Image.Image) -> Image.Image:
    """Put the picture, in the middle, above a strip that is no narrower."""
    sheet = Image.new('RGB', (strip.width, shown.height + strip.height), BACKGROUND)
    sheet.paste(shown, ((strip.width - shown.width) // 2, 0))
    sheet.paste(strip, (0, shown.height))
    return sheet
