"""Images from files, in the type in which the file holds them."""

import os
from pathlib import Path

import numpy as np
import simplejpeg

from mae_toolkit.datasets.image_decoders import (
    ORIENTATION,
    decode_image_bytes,
    decode_with_pillow,
    orient,
    read_orientation,
)
from mae_toolkit.datasets.image_headers import JPEG
from mae_toolkit.datasets.image_limits import ImageLimits

__all__ = [
    'DEFAULT_LIMITS',
    'ORIENTATION',
    'SUFFIXES',
    'BrokenImageError',
    'DecodedFile',
    'ImageFile',
    'JpegFile',
    'decode_image',
    'open_image',
    'orient',
    'read_image',
]

SUFFIXES = ('.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.tif', '.tiff', '.webp', '.bmp', '.ppm', '.pgm', '.npy', '.npz')
REDUCTIONS = (8, 4, 2)  # libjpeg-turbo lacks fast code for those between: 7/8 takes longer than the whole image
CUT_OFF = ('premature end', 'huffman')  # in messages of libjpeg: part of the picture is missing
DEFAULT_LIMITS = ImageLimits()


class BrokenImageError(Exception):
    """An image that cannot be decoded.

    Attributes:
        path (str): The file.
        reason (str): What its decoder said.
    """

    def __init__(self, path, reason):
        super().__init__(str(path), reason)
        self.path, self.reason = str(path), reason

    def __str__(self):
        """File and reason."""
        return f'{self.path}: {self.reason}'


class ImageFile:
    """An image whose size is known before it is decoded.

    Attributes:
        path (Path): The file.
        size (tuple[int, int]): Height and width as the image is looked at, after its EXIF orientation.
        limits (ImageLimits): What it was held to; resizing it may not exceed them either.
    """

    def __init__(self, path, size, limits=DEFAULT_LIMITS):
        self.path, self.size, self.limits = path, size, limits

    def decode(self, min_size=(1 << 30, 1 << 30)):
        """The image (H, W, C) in the file's own type: uint8, uint16 or float32.

        Args:
            min_size (tuple[int, int]): A JPEG may come reduced by 2, 4 or 8 as long as it is not smaller than this.
        """
        raise NotImplementedError


class JpegFile(ImageFile):
    """A JPEG, decoded by libjpeg-turbo, at a fraction of its size where that is enough."""

    def __init__(self, path, data, limits=DEFAULT_LIMITS):
        self._data = data
        height, width, self._space, _ = simplejpeg.decode_jpeg_header(self._data, strict=False)
        limits.check_pixels(height, width, 'its header promises')
        self._orientation = read_orientation(self._data)
        super().__init__(path, (width, height) if self._orientation >= 5 else (height, width), limits)

    def decode(self, min_size=(1 << 30, 1 << 30)):
        """The image (H, W, C) uint8; see :meth:`ImageFile.decode`."""
        if self._space in ('CMYK', 'YCCK'):
            return decode_with_pillow(self._data, self.limits)
        size, least = (self.size[::-1], min_size[::-1]) if self._orientation >= 5 else (self.size, min_size)
        height, width = _reduced(size, least)
        kind = 'GRAY' if self._space == 'Gray' else 'RGB'
        with self.limits.decoding(height, width, height * width * (1 if kind == 'GRAY' else 3)):
            try:
                # Its faster, coarser colors would gain a few percent and change pixels by up to 46 levels.
                image = simplejpeg.decode_jpeg(self._data, kind, min_height=height, min_width=width)
            except ValueError as error:  # Pillow forgives stray bytes, but also that a file ends early
                if any(words in str(error).lower() for words in CUT_OFF):
                    raise
                return decode_with_pillow(self._data, self.limits)
        return orient(image, self._orientation)


class DecodedFile(ImageFile):
    """Any other image, decoded at once."""

    def __init__(self, path, image, limits=DEFAULT_LIMITS):
        self._image = image
        super().__init__(path, image.shape[:2], limits)

    def decode(self, min_size=(1 << 30, 1 << 30)):
        """The image (H, W, C) as it is."""
        return self._image


def open_image(path: str | Path, limits: ImageLimits = DEFAULT_LIMITS) -> ImageFile:
    """Open an image file.

    Args:
        path: The file.
        limits: The largest image that is accepted, by what its header says.

    Raises:
        BrokenImageError: If it is missing, empty, too large or cannot be decoded.
    """
    path = Path(path)
    return _unless_broken(path, lambda: _opened(path, _bytes_of(path, limits), limits))


def decode_image(file, min_size=(1 << 30, 1 << 30)):
    """Decode an opened image; see :meth:`ImageFile.decode`.

    Raises:
        BrokenImageError: If its content is damaged or cut off, or there is too little memory for it.
    """
    return _unless_broken(file.path, lambda: file.decode(min_size))


def read_image(path: str | Path, limits: ImageLimits = DEFAULT_LIMITS) -> np.ndarray:
    """Read the image (H, W, C) of a file in its own type: uint8, uint16 or float32.

    JPEG, PNG, WebP, BMP, PNM, TIFF (any number of channels, 16 bits, floats) and NumPy arrays (H, W) or (H, W, C).

    Args:
        path: The file.
        limits: The largest image that is accepted, by what its header says.

    Raises:
        BrokenImageError: If it is missing, too large or cannot be decoded.
    """
    return decode_image(open_image(path, limits))


def _unless_broken(path, function):
    try:
        return function()
    except MemoryError:
        raise BrokenImageError(path, 'there is not enough memory for it') from None
    except Exception as error:  # a damaged file can make a decoder raise anything
        text = str(error).strip() or type(error).__name__
        raise BrokenImageError(path, text.splitlines()[0]) from error


def _bytes_of(path, limits):
    if path.exists() and not path.is_file():  # reading a pipe would wait for ever
        raise ValueError('it is no regular file')
    with open(path, 'rb') as file:
        limits.check_bytes(os.fstat(file.fileno()).st_size, 'the file has')
        return file.read()


def _opened(path, data, limits):
    if not data:
        raise ValueError('the file is empty')
    if data.startswith(JPEG):
        try:
            return JpegFile(path, data, limits)
        except (ValueError, KeyError):  # some layouts of color only Pillow knows
            return DecodedFile(path, decode_with_pillow(data, limits), limits)
    return DecodedFile(path, decode_image_bytes(data, limits), limits)


def _reduced(size, least):
    """Height and width after the strongest reduction that leaves at least ``least``."""
    for by in REDUCTIONS:
        height, width = -(-size[0] // by), -(-size[1] // by)
        if height >= least[0] and width >= least[1]:
            return height, width
    return size
