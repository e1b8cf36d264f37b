"""Functions of images (H, W, C): dtype, orientation, size and crops."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import interpolate


def to_supported_dtype(image: np.ndarray) -> np.ndarray:
    """Convert an array (H, W) or (H, W, C) to (H, W, C) in uint8, uint16 or float32.

    Booleans become 0 and 255, and all other numbers float32, as far as they fit.

    Raises:
        ValueError: If the array is empty, or its values are not numbers.
    """
    image = image if image.ndim == 3 else image[..., None]
    if 0 in image.shape:
        raise ValueError(f'the image is empty: {image.shape}')
    if image.dtype == bool:
        return image.astype(np.uint8) * 255
    if image.dtype.kind not in 'uif':
        raise ValueError(f'values of dtype {image.dtype} are not those of an image')
    dtype = image.dtype.newbyteorder('=')
    with np.errstate(over='raise'):  # a number too large for float32 would become infinite
        return image.astype(dtype if dtype in (np.uint8, np.uint16, np.float32) else np.float32, copy=False)


def apply_orientation(image: np.ndarray, orientation: int) -> np.ndarray:
    """Rotate or mirror an image (H, W, C) by its EXIF orientation, 1 to 8, and return a view of it."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    rows = slice(None, None, -1) if orientation in (3, 4, 7, 8) else slice(None)
    columns = slice(None, None, -1) if orientation in (2, 3, 6, 7) else slice(None)
    return image[rows, columns]


def resize(image: np.ndarray, size: Sequence[int], interpolation: str) -> np.ndarray:
    """Resize an image (H, W, C) with antialiasing, in its own dtype.

    Args:
        image: uint8, uint16 or float32.
        size: Height and width of the result.
        interpolation: 'bicubic' or 'bilinear'.
    """
    if image.shape[:2] == tuple(size):
        return image
    dtype = image.dtype
    x = torch.from_numpy(_without_negative_strides(image) if dtype == np.uint8 else image.astype(np.float32))
    x = x.permute(2, 0, 1)[None]  # (1, C, H, W); bytes keep their channels last, which has the fast kernel
    resized = interpolate(x, size=tuple(size), mode=interpolation, antialias=True)[0].permute(1, 2, 0).numpy()
    if dtype == np.uint16:
        resized = resized.round().clip(0, 65535)
    return resized.astype(dtype, copy=False)


def pad_to_size(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Mirror all borders of an image (H, W, C) until it is at least of a height and width."""
    missing = [max(0, want - have) for have, want in zip(image.shape, size, strict=False)]
    if not any(missing):
        return image
    return np.pad(image, [*((n // 2, n - n // 2) for n in missing), (0, 0)], mode='symmetric')


def crop(image: np.ndarray, region: tuple[int, int, int, int]) -> np.ndarray:
    """Return a view of an image (H, W, C) at (top, left, height, width)."""
    top, left, h, w = region
    top, left = min(top, image.shape[0] - 1), min(left, image.shape[1] - 1)
    return image[top : top + h, left : left + w]


def flip(image: np.ndarray, axis: int) -> np.ndarray:
    """Flip an image (H, W, C) along axis 0 or 1 into new memory, by torch, which is much faster than ``np.flip``."""
    numbers = image.view(np.int16) if image.dtype == np.uint16 else image  # not every torch flips uint16
    x = torch.from_numpy(_without_negative_strides(numbers)).permute(2, 0, 1)  # resized images are (C, H, W) in memory
    return x.flip(axis + 1).permute(1, 2, 0).numpy().view(image.dtype)


def _without_negative_strides(image: np.ndarray) -> np.ndarray:
    """Copy an array that is read backwards, which torch does not support."""
    return image if min(image.strides) >= 0 else np.ascontiguousarray(image)
