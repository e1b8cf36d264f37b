"""Thin images, such as 20 x 60,000 pixels, whose resize would make far more pixels than the crop after it keeps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mae_toolkit.datasets.functional import crop, pad_to_size, resize
from mae_toolkit.datasets.image_limits import ImageLimits
from mae_toolkit.datasets.transforms import CenterCrop, RandomCrop, Resize, Transform

MAX_WASTE = 64  # resized pixels per pixel that is kept; beyond this, the crop comes first


def should_crop_first(step: Transform, following: Transform | None, size: Sequence[int]) -> bool:
    """Return whether a resize would make so many pixels that only those of the crop after it should be made.

    Args:
        step: A transform.
        following: The next transform, if any.
        size: Height and width of the image before ``step``.
    """
    if not isinstance(step, Resize) or not step.keeps_aspect_ratio:
        return False
    if not isinstance(following, CenterCrop | RandomCrop):
        return False
    return math.prod(step.output_size(size[0], size[1])) > MAX_WASTE * math.prod(following.size)


def check_output_size(step: Transform, size: Sequence[int], limits: ImageLimits) -> None:
    """Refuse an image that a resize of its shorter side would make larger than the limit.

    Args:
        step: A transform; only a :class:`Resize` that keeps the aspect ratio is checked.
        size: Height and width of the image before ``step``.
        limits: The limits.

    Raises:
        ImageTooLargeError: With both numbers.
    """
    if isinstance(step, Resize) and step.keeps_aspect_ratio:
        height, width = size
        subject = f'its {height:,} x {width:,} pixels would be resized to'
        limits.check_pixels(*step.output_size(height, width), subject)


def resize_and_crop(
    image: np.ndarray, step: Transform, cropping: Transform | None, rng: np.random.Generator
) -> np.ndarray:
    """Resize only the part of a thin image that the crop after it keeps.

    The long side is cut to a whole number of squares around that part, with a margin for the interpolation, so that
    the scale is that of the whole image. The result is what resizing everything and cropping would give, moved by less
    than a pixel where the length of the resized whole would be rounded.

    Args:
        image: (H, W, C).
        step: A :class:`Resize` of the shorter side.
        cropping: The :class:`CenterCrop` or :class:`RandomCrop` after it.
        rng: Random numbers, of which it draws the same as the crop alone.

    Returns:
        (h, w, C) of the crop's size.
    """
    assert isinstance(step, Resize) and isinstance(step.size, int) and isinstance(cropping, CenterCrop | RandomCrop)
    axis = int(image.shape[1] > image.shape[0])  # the long one
    short, long = image.shape[1 - axis], image.shape[axis]
    side = step.size
    resized = step.output_size(image.shape[0], image.shape[1])
    padded = tuple(max(have, want) for have, want in zip(resized, cropping.size, strict=True))
    corner = cropping.choose_corner(padded, rng)
    missing = max(0, cropping.size[axis] - resized[axis])
    start = corner[axis] - missing // 2
    margin = 2 + math.ceil(2 * max(1, short / side) / short)  # squares; a bicubic kernel reaches two pixels
    first = max(0, start // side - margin)
    last = min(math.ceil(long / short), math.ceil((start + cropping.size[axis]) / side) + margin)
    first = max(0, min(first, long // short - 1))
    part = image[:, first * short : last * short] if axis else image[first * short : last * short]
    part = resize(part, step.output_size(*part.shape[:2]), step.interpolation)
    offset = min(max(0, start - first * side), max(0, part.shape[axis] - cropping.size[axis]))
    top, left = (corner[0], offset) if axis else (offset, corner[1])
    return crop(pad_to_size(part, cropping.size), (top, left, *cropping.size))
