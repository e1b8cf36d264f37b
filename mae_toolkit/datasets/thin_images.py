"""Thin images, of which a resize to a shorter side would make much more than a crop keeps."""

import math

import numpy as np

from mae_toolkit.datasets.image_limits import ImageLimits
from mae_toolkit.datasets.transforms import CenterCrop, RandomCrop, Resize, Transform, cut, grow, resize

WASTE = 64  # times as many pixels as are kept; beyond this a crop comes first


def crop_comes_first(step: Transform, following: Transform | None, size: tuple[int, int]) -> bool:
    """Tell whether a resize would make so much more than the crop after it keeps that only that part is made.

    Args:
        step: A transform.
        following: The next one, if any.
        size: Height and width of the image.
    """
    if not isinstance(step, Resize) or not step.depends_on_shape or not isinstance(following, CenterCrop | RandomCrop):
        return False
    return math.prod(step.target(*size)) > WASTE * math.prod(following.size)


def check_target(step: Transform, size: tuple[int, int], limits: ImageLimits) -> None:
    """Refuse an image whose shape makes a resize exceed the limit of pixels.

    Raises:
        ImageTooLarge: With both numbers.
    """
    if isinstance(step, Resize) and step.depends_on_shape:
        limits.check_pixels(*step.target(*size), f'its {size[0]:,} x {size[1]:,} pixels would be resized to')


def resize_and_crop(
    image: np.ndarray, step: Resize, crop: CenterCrop | RandomCrop, rng: np.random.Generator
) -> np.ndarray:
    """Make only the part of a resized thin image that the crop keeps.

    The long side is cut to a whole number of squares around that part, with a margin for the interpolation, so that
    the scale is that of the whole. The result is what resizing everything and cropping would give, moved by less than a
    pixel where the length of the whole would be rounded.

    Args:
        image: (H, W, C).
        step: The resize; its size is that of the shorter side.
        crop: The crop.
        rng: Random numbers, of which it takes those that the crop takes.

    Returns:
        (h, w, C) of the crop's size.
    """
    axis = int(image.shape[1] > image.shape[0])  # the long one
    short, long = image.shape[1 - axis], image.shape[axis]
    side = step.size
    target = step.target(*image.shape[:2])
    corner = crop.corner(tuple(max(have, want) for have, want in zip(target, crop.size, strict=True)), rng)
    missing = max(0, crop.size[axis] - target[axis])
    start = corner[axis] - missing // 2
    margin = 2 + math.ceil(2 * max(1, short / side) / short)  # squares; a bicubic kernel reaches two pixels
    first = max(0, start // side - margin)
    last = min(math.ceil(long / short), math.ceil((start + crop.size[axis]) / side) + margin)
    first = max(0, min(first, long // short - 1))
    part = image[:, first * short : last * short] if axis else image[first * short : last * short]
    part = resize(part, step.target(*part.shape[:2]), step.interpolation)
    places = list(corner)
    places[axis] = min(max(0, start - first * side), max(0, part.shape[axis] - crop.size[axis]))
    return cut(grow(part, crop.size), (*places, *crop.size))
