"""Reading of image files, in the dtype in which they are stored."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import simplejpeg

from mae_toolkit.datasets.functional import apply_orientation
from mae_toolkit.datasets.header_bytes import JPEG_SIGNATURE
from mae_toolkit.datasets.image_decoders import (
    ORIENTATION_TAG,
    decode_image_bytes,
    decode_with_pillow,
    read_orientation,
)
from mae_toolkit.datasets.image_limits import DEFAULT_LIMITS, ImageLimits

__all__ = [
    'ORIENTATION_TAG',
    'SUFFIXES',
    'BrokenImageError',
    'DecodedFile',
    'ImageFile',
    'JpegFile',
    'decode_image',
    'open_image',
    'open_image_bytes',
    'read_image',
]

SUFFIXES = ('.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.tif', '.tiff', '.webp', '.bmp', '.ppm', '.pgm', '.npy', '.npz')
JPEG_REDUCTIONS = (8, 4, 2)  # libjpeg-turbo lacks fast code for those between: 7/8 takes longer than the whole image
TRUNCATED = ('premature end', 'huffman')  # in messages of libjpeg: part of the image is missing
FULL_SIZE = (1 << 30, 1 << 30)  # a minimum height and width for which no image is reduced
T = TypeVar('T')


class BrokenImageError(Exception):
    """An image that cannot be decoded.

    Attributes:
        path: The file.
        reason: Why it cannot be decoded, in one line.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(str(path), reason)
        self.path, self.reason = str(path), reason

    def __str__(self) -> str:
        """Return the file and the reason."""
        return f'{self.path}: {self.reason}'


class ImageFile:
    """An opened image, whose size is known before it is decoded.

    Attributes:
        path: The file.
        size: Height and width after EXIF orientation.
        limits: Limits that the file was checked against, and that resizing it must not exceed either.
    """

    def __init__(self, path: str | Path, size: tuple[int, int], limits: ImageLimits = DEFAULT_LIMITS) -> None:
        self.path, self.size, self.limits = path, size, limits

    def decode(self, min_size: tuple[int, int] = FULL_SIZE) -> np.ndarray:
        """Decode the image (H, W, C) in the dtype of the file: uint8, uint16 or float32.

        Args:
            min_size: Least height and width of the result. A JPEG may come reduced by 2, 4 or 8 as long as it is not
                smaller, which is faster; by default, the image has its full size.
        """
        raise NotImplementedError


class JpegFile(ImageFile):
    """A JPEG, decoded by libjpeg-turbo, at a reduced size where that is enough.

    Args:
        path: The file, for errors.
        data: Its content.
        limits: The largest image that is accepted.
    """

    def __init__(self, path: str | Path, data: bytes, limits: ImageLimits = DEFAULT_LIMITS) -> None:
        self._data = data
        height, width, self._color_space, _ = simplejpeg.decode_jpeg_header(self._data, strict=False)
        limits.check_pixels(height, width, 'its header promises')
        self._orientation = read_orientation(self._data)
        super().__init__(path, (width, height) if self._orientation >= 5 else (height, width), limits)

    def decode(self, min_size: tuple[int, int] = FULL_SIZE) -> np.ndarray:
        """Decode the image (H, W, C) as uint8; see :meth:`ImageFile.decode`."""
        if self._color_space in ('CMYK', 'YCCK'):
            return decode_with_pillow(self._data, self.limits)
        swapped = self._orientation >= 5
        stored_size, stored_min_size = (self.size[::-1], min_size[::-1]) if swapped else (self.size, min_size)
        height, width = _reduced_size(stored_size, stored_min_size)
        color_space = 'GRAY' if self._color_space == 'Gray' else 'RGB'
        with self.limits.decoding(height, width, height * width * (1 if color_space == 'GRAY' else 3)):
            try:
                # Its faster, coarser colors would gain a few percent and change pixels by up to 46 levels.
                image = simplejpeg.decode_jpeg(self._data, color_space, min_height=height, min_width=width)
            except ValueError as error:  # Pillow forgives stray bytes, but also that a file ends early
                if any(words in str(error).lower() for words in TRUNCATED):
                    raise
                return decode_with_pillow(self._data, self.limits)
        return apply_orientation(image, self._orientation)


class DecodedFile(ImageFile):
    """An image of any other format, which is decoded when it is opened.

    Args:
        path: The file, for errors.
        image: The decoded image (H, W, C).
        limits: The largest image that resizing may make.
    """

    def __init__(self, path: str | Path, image: np.ndarray, limits: ImageLimits = DEFAULT_LIMITS) -> None:
        self._image = image
        super().__init__(path, (image.shape[0], image.shape[1]), limits)

    def decode(self, min_size: tuple[int, int] = FULL_SIZE) -> np.ndarray:
        """Return the image (H, W, C) in its full size."""
        return self._image


def open_image(path: str | Path, limits: ImageLimits = DEFAULT_LIMITS) -> ImageFile:
    """Open an image file.

    Args:
        path: The file.
        limits: The largest image that is accepted, by its header.

    Raises:
        BrokenImageError: If it is missing, empty, too large or cannot be decoded.
    """
    path = Path(path)
    return _name_errors(path, lambda: _open_bytes(path, _read_bytes(path, limits), limits))


def open_image_bytes(name: str, data: bytes, limits: ImageLimits = DEFAULT_LIMITS) -> ImageFile:
    """Open an image that is in memory.

    Args:
        name: Its name, for errors.
        data: What a file of the image would hold.
        limits: The largest image that is accepted, by its header.

    Raises:
        BrokenImageError: If it is empty, too large or cannot be decoded.
    """

    def read() -> ImageFile:
        limits.check_bytes(len(data), 'the file has')
        return _open_bytes(name, data, limits)

    return _name_errors(name, read)


def decode_image(file: ImageFile, min_size: tuple[int, int] = FULL_SIZE) -> np.ndarray:
    """Decode an opened image (H, W, C), and name the file if that fails.

    Args:
        file: The opened image.
        min_size: Least height and width of the result; see :meth:`ImageFile.decode`.

    Raises:
        BrokenImageError: If its content is damaged or truncated, or there is too little memory for it.
    """
    return _name_errors(file.path, lambda: file.decode(min_size))


def read_image(path: str | Path, limits: ImageLimits = DEFAULT_LIMITS) -> np.ndarray:
    """Read the image (H, W, C) of a file in its own dtype: uint8, uint16 or float32.

    JPEG, PNG, WebP, BMP, PNM, TIFF (any number of channels, 16 bits, floats) and NumPy arrays (H, W) or (H, W, C) are
    read; the content of the file decides, not its name.

    Args:
        path: The file.
        limits: The largest image that is accepted, by its header.

    Raises:
        BrokenImageError: If it is missing, too large or cannot be decoded.
    """
    return decode_image(open_image(path, limits))


def _name_errors(path: str | Path, function: Callable[[], T]) -> T:
    """Call a function, and raise what it raises as a :class:`BrokenImageError` with the path."""
    try:
        return function()
    except MemoryError:
        raise BrokenImageError(path, 'there is not enough memory for it') from None
    except Exception as error:  # a damaged file can make a decoder raise anything
        text = str(error).strip() or type(error).__name__
        raise BrokenImageError(path, text.splitlines()[0]) from error


def _read_bytes(path: Path, limits: ImageLimits) -> bytes:
    if path.exists() and not path.is_file():  # reading a pipe would wait forever
        raise ValueError('it is not a regular file')
    with open(path, 'rb') as file:
        limits.check_bytes(os.fstat(file.fileno()).st_size, 'the file has')
        return file.read()


def _open_bytes(path: str | Path, data: bytes, limits: ImageLimits) -> ImageFile:
    if not data:
        raise ValueError('the file is empty')
    if data.startswith(JPEG_SIGNATURE):
        try:
            return JpegFile(path, data, limits)
        except (ValueError, KeyError):  # some color spaces only Pillow knows
            return DecodedFile(path, decode_with_pillow(data, limits), limits)
    return DecodedFile(path, decode_image_bytes(data, limits), limits)


def _reduced_size(size: tuple[int, int], min_size: tuple[int, int]) -> tuple[int, int]:
    """Return height and width after the strongest reduction that is not smaller than ``min_size``."""
    for factor in JPEG_REDUCTIONS:
        height, width = -(-size[0] // factor), -(-size[1] // factor)
        if height >= min_size[0] and width >= min_size[1]:
            return height, width
    return size
