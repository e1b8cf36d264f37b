"""Draw where an image is unusual: a heat map over the picture, with boxes."""

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from mae_toolkit.visualization.predictions import Box, add_legend, enlarge

STRONGEST = 0.7  # share of the color where the map is hottest
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
    colors = cv2.applyColorMap((strength * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    weight = (STRONGEST * np.minimum(2 * strength, 1))[..., None]
    pixels = np.asarray(shown, np.float32) * (1 - weight) + colors * weight
    drawn = Image.fromarray(pixels.round().astype(np.uint8))
    scale = np.array([size[0] / picture.shape[1], size[1] / picture.shape[0]] * 2)
    draw, line = ImageDraw.Draw(drawn), max(1, round(max(size) / 320))
    for box in boxes:
        left, top, right, bottom = map(float, np.array(box) * scale)
        draw.rectangle((left, top, right - 1, bottom - 1), outline=ALARM, width=line)
    mark = (128, 128, 128) if is_anomalous is None else ALARM if is_anomalous else CALM
    return add_legend(drawn, {caption: mark})
