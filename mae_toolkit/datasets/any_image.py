"""Images of any kind: files, arrays and pictures of Pillow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from mae_toolkit.datasets.image_decoders import convert_picture
from mae_toolkit.datasets.image_io import BrokenImageError, DecodedFile, ImageFile, open_image
from mae_toolkit.datasets.image_limits import DEFAULT_LIMITS, ImageLimits
from mae_toolkit.errors import UserError

ImageLike = str | Path | ImageFile | np.ndarray | Image.Image


def as_image_file(image: ImageLike, limits: ImageLimits = DEFAULT_LIMITS) -> ImageFile:
    """Open an image of any kind: a path, an image (H, W) or (H, W, C) in memory, or a file that is open already.

    Args:
        image: The image.
        limits: Largest image that is decoded.

    Raises:
        BrokenImageError: If a file cannot be read.
        UserError: If an array has another shape or type.
    """
    if isinstance(image, ImageFile):
        return image
    if isinstance(image, str | Path):
        return open_image(image, limits)
    array = convert_picture(image) if isinstance(image, Image.Image) else np.asarray(image)
    array = array[..., None] if array.ndim == 2 else array
    if array.ndim != 3 or array.dtype not in (np.uint8, np.uint16, np.float32):
        raise UserError(
            f'An image is an array (H, W) or (H, W, C) of uint8, uint16 or float32, not {array.shape} of {array.dtype}.'
        )
    return DecodedFile('the array', array)


def check_finite(image: np.ndarray, name: str | Path) -> None:
    """Refuse an image with pixels that are infinite or NaN.

    Args:
        image: The image.
        name: Its name, for the error.

    Raises:
        BrokenImageError: If there are such pixels.
    """
    if image.dtype.kind == 'f' and not np.isfinite(image).all():
        raise BrokenImageError(name, 'it holds pixels that are not finite')
