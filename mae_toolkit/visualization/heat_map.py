"""Draw where an image is unusual: a heat map over the picture, with boxes."""

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from mae_toolkit.visualization.grid import BACKGROUND, GAP, load_font, make_picture_grid, resize
from mae_toolkit.visualization.predictions import Box, add_legend, enlarge, tint

STRONGEST = 0.7  # share of the color where the map is hottest
HEADING = 22  # pixels of the text, readable where the whole picture is as wide as a phone
FRAME = (170, 170, 170)  # so that an image whose border is white ends somewhere
ALARM, CALM = (230, 60, 60), (60, 170, 90)


def draw_heat_map(
    picture: np.ndarray,
    heat: np.ndarray,
    boxes: Sequence[Box],
    hottest: float,
    caption: str,
    is_anomalous: bool | None,
    side: int | None = None,
) -> Image.Image:
    """Draw a heat map over a picture; where it is 0 or less, the picture is left as it is.

    Args:
        picture: (H, W, 3) uint8.
        heat: (h, w), resized to the picture.
        boxes: Left, top, right and bottom in pixels of the picture.
        hottest: The value that has the brightest color, above 0.
        caption: Text below the picture.
        is_anomalous: Makes the mark before the text red or green; gray if None.
        side: Pixels of the longer side; if None, a small picture is enlarged.
    """
    shown = enlarge(picture, side)
    size = shown.size
    strength = cv2.resize(np.ascontiguousarray(heat, np.float32), size, interpolation=cv2.INTER_LINEAR)
    strength = (strength / max(hottest, 1e-12)).clip(0, 1)
    weight = (STRONGEST * np.minimum(2 * strength, 1))[..., None]
    pixels = np.asarray(shown, np.float32) * (1 - weight) + _to_colors(strength) * weight
    drawn = Image.fromarray(pixels.round().astype(np.uint8))
    scale = np.array([size[0] / picture.shape[1], size[1] / picture.shape[0]] * 2)
    draw, line = ImageDraw.Draw(drawn), max(1, round(max(size) / 320))
    for box in boxes:
        left, top, right, bottom = map(float, np.array(box) * scale)
        draw.rectangle((left, top, right - 1, bottom - 1), outline=ALARM, width=line)
    mark = (128, 128, 128) if is_anomalous is None else ALARM if is_anomalous else CALM
    return add_legend(drawn, {caption: mark})


def draw_heat_beside_truth(
    pictures: Sequence[np.ndarray],
    heats: Sequence[np.ndarray],
    defects: Sequence[np.ndarray],
    hottest: float,
    headings: Sequence[str],
    side: int = 320,
) -> Image.Image:
    """Draw a row per image: the image, its heat map, and where defects are labeled; below, what the colors mean.

    The heat map is not laid over the image, so that it can be seen on any.

    Args:
        pictures: (H, W, 3) uint8 each.
        heats: (h, w) each, in standard deviations of normal images.
        defects: (H, W) bool each, True where a defect is labeled.
        hottest: The value that has the brightest color, above 0.
        headings: Of the three columns.
        side: Pixels of the longer side of each picture.
    """
    rows = []
    for picture, heat, defect in zip(pictures, heats, defects, strict=True):
        shown = resize(picture, side)
        ImageDraw.Draw(shown).rectangle((0, 0, shown.width - 1, shown.height - 1), outline=FRAME)
        truth = np.array(shown)
        count, parts = cv2.connectedComponents(defect.astype(np.uint8))
        for number in range(1, count):
            tint(truth, parts == number, ALARM, max(2, side // 160))
        hot = cv2.resize(np.ascontiguousarray(heat, np.float32), shown.size, interpolation=cv2.INTER_LINEAR)
        rows.append([np.asarray(shown), _to_colors((hot / max(hottest, 1e-12)).clip(0, 1)), truth])
    sheet = make_picture_grid(rows, headings, font_size=HEADING)
    return _add_scale(sheet, hottest)


def _to_colors(strength: np.ndarray) -> np.ndarray:
    """Return red, green and blue (..., 3) uint8 of a strength (h, w) between 0 and 1."""
    return cv2.applyColorMap((strength * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]


def _add_scale(sheet: Image.Image, hottest: float) -> Image.Image:
    """Put a bar of the colors below a picture, with the values at its ends."""
    font, height, width = load_font(HEADING), round(1.8 * HEADING), sheet.width // 4
    scaled = Image.new('RGB', (sheet.width, sheet.height + height), BACKGROUND)
    scaled.paste(sheet)
    bar = _to_colors(np.linspace(0, 1, width, dtype=np.float32)[None].repeat(HEADING, 0))
    draw, top = ImageDraw.Draw(scaled), sheet.height + (height - HEADING) // 2
    left = 2 * GAP + int(font.getlength('0 '))
    draw.text((GAP, top + HEADING / 2), '0', (0, 0, 0), font, anchor='lm')
    scaled.paste(Image.fromarray(np.ascontiguousarray(bar)), (left, top))
    text = f'{hottest:.1f} standard deviations above normal images'
    draw.text((left + width + GAP, top + HEADING / 2), text, (0, 0, 0), font, anchor='lm')
    return scaled
