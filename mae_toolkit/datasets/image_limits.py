"""Limits of the size of images, checked on what a header says before anything is decoded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import cv2

from mae_toolkit.errors import UserError

MAX_PIXELS = 1 << 28  # 16,384 x 16,384
MAX_BYTES = 1 << 31  # of the file, and of its pixels once decoded
# What torch, OpenCV and the operating system say where memory has run out, besides MemoryError.
OUT_OF_MEMORY = ("can't allocate memory", 'not enough memory', 'out of memory', 'insufficient memory', 'bad allocation')


class ImageTooLargeError(ValueError):
    """An image whose pixels, or their bytes, exceed the limits."""


@dataclass(frozen=True)
class ImageLimits:
    """The largest image that is decoded; a larger one counts as broken.

    Without limits, a file of a few bytes could promise any number of pixels and take all memory.

    Attributes:
        pixels: Maximum of height times width.
        bytes: Maximum size of the file, and of all its decoded channels.

    Raises:
        UserError: If a limit is not a whole number above 0.
    """

    pixels: int = MAX_PIXELS
    bytes: int = MAX_BYTES

    def __post_init__(self) -> None:
        """Refuse values that cannot be limits."""
        for name, value in (('max_pixels', self.pixels), ('max_bytes', self.bytes)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(f'{name}={value!r} must be a whole number of 1 or more.')

    def check_pixels(self, height: int, width: int, subject: str = 'it has') -> None:
        """Refuse more pixels than are allowed.

        Args:
            height: Number of rows.
            width: Number of columns.
            subject: Beginning of the error, such as ``'its header promises'``.

        Raises:
            ImageTooLargeError: With both numbers.
        """
        if height * width > self.pixels:
            raise ImageTooLargeError(
                f'{subject} {height:,} x {width:,} pixels = {height * width:,}, more than max_pixels={self.pixels:,}'
            )

    def check_bytes(self, count: int, subject: str) -> None:
        """Refuse more bytes than are allowed.

        Args:
            count: Number of bytes.
            subject: Beginning of the error, such as ``'the file has'``.

        Raises:
            ImageTooLargeError: With both numbers.
        """
        if count > self.bytes:
            raise ImageTooLargeError(f'{subject} {count:,} bytes, more than max_bytes={self.bytes:,}')

    @contextmanager
    def decoding(self, height: int, width: int, count: int) -> Iterator[None]:
        """Check the size of an image before the block decodes it, and name the size if memory runs out in the block.

        Args:
            height: Number of rows in the header.
            width: Number of columns in the header.
            count: Bytes of the decoded pixels.

        Raises:
            ImageTooLargeError: If it is larger than allowed, before anything is decoded.
            ValueError: If there is too little memory.
        """
        self.check_pixels(height, width, 'its header promises')
        self.check_bytes(count, f'its {height:,} x {width:,} pixels take')
        try:
            yield
        except MemoryError:
            raise ValueError(
                f'there is not enough memory for its {height:,} x {width:,} pixels ({count:,} bytes)'
            ) from None


DEFAULT_LIMITS = ImageLimits()


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory has run out, in the words of Python, torch or OpenCV."""
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError | OSError | cv2.error) and any(words in text for words in OUT_OF_MEMORY)
