"""Draw images beside their features in colors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from mae_toolkit.visualization.grid import make_picture_grid

LEAST_SIDE = 224


def draw_feature_colors(
    images: Sequence[np.ndarray],
    colors: Sequence[Sequence[np.ndarray]],
    levels: Sequence[tuple[int, int, Sequence[float]]],
    side: int | None = None,
    is_foreground: bool = False,
) -> Image.Image:
    """Draw a row for each image: what the encoder saw, and the colors of each level.

    Args:
        images: Pictures (H, W, 3) uint8.
        colors: For each image, and for each level, (h, w, 3) uint8.
        levels: Of each level its number, its stride in pixels, and the shares of the variance of its components.
        side: Pixels of the longer side of each picture; if None, that of what the encoder saw, and 224 or more.
        is_foreground: The shares are those of the variance within the foreground.
    """
    side = side or max(LEAST_SIDE, *images[0].shape[:2])
    headings = ['what the encoder saw']
    for level, stride, shares in levels:
        parts = ' + '.join(f'{share:.0%}' for share in shares).replace('%', '')
        of = 'of the foreground' if is_foreground else 'of the variance'
        headings.append(f'level {level}, stride {stride}: {parts} = {sum(shares):.0%} {of}')
    rows = [
        [image, *(enlarge_colors(picture, image.shape) for picture in pictures)]
        for image, pictures in zip(images, colors, strict=True)
    ]
    return make_picture_grid(rows, headings, side)


def enlarge_colors(picture: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Enlarge a picture (h, w, 3) to the size (H, W, 3) of another, so that its positions can be seen."""
    return np.asarray(Image.fromarray(picture).resize((shape[1], shape[0]), Image.Resampling.NEAREST))
