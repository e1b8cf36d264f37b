"""How large an image may be: checked on what its header says, before anything is decoded."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import cv2

from mae_toolkit.errors import UserError

MAX_PIXELS = 1 << 28  # 16,384 x 16,384
MAX_BYTES = 1 << 31  # of the file, and of its pixels once decoded
# What torch, OpenCV and the system say where memory has run out, besides MemoryError.
OUT_OF_MEMORY = ("can't allocate memory", 'not enough memory', 'out of memory', 'insufficient memory', 'bad allocation')


class ImageTooLargeError(ValueError):
    """An image whose pixels, or their bytes, are more than the limits allow."""


@dataclass(frozen=True)
class ImageLimits:
    """The largest image that is decoded; a larger one counts as broken.

    A file of some bytes may promise any number of pixels, and would take all memory.

    Attributes:
        pixels: Height times width.
        bytes: Size of the file, and of all its decoded channels.

    Raises:
        UserError: If one of them is no whole number above 0.
    """

    pixels: int = MAX_PIXELS
    bytes: int = MAX_BYTES

    def __post_init__(self) -> None:
        """Refuse what cannot limit anything."""
        for name, value in (('max_pixels', self.pixels), ('max_bytes', self.bytes)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(f'{name}={value!r} is no limit: give a whole number of 1 or more.')

    def check_pixels(self, height: int, width: int, what: str = 'it has') -> None:
        """Refuse more pixels than are allowed.

        Args:
            height: Rows.
            width: Columns.
            what: How the sentence begins.

        Raises:
            ImageTooLargeError: With both numbers.
        """
        if height * width > self.pixels:
            raise ImageTooLargeError(
                f'{what} {height:,} x {width:,} pixels = {height * width:,}, more than max_pixels={self.pixels:,}'
            )

    def check_bytes(self, count: int, what: str) -> None:
        """Refuse more bytes than are allowed.

        Args:
            count: The number of bytes.
            what: How the sentence begins.

        Raises:
            ImageTooLargeError: With both numbers.
        """
        if count > self.bytes:
            raise ImageTooLargeError(f'{what} {count:,} bytes, more than max_bytes={self.bytes:,}')

    @contextmanager
    def decoding(self, height: int, width: int, count: int) -> Iterator[None]:
        """Decode an image of a known size, unless it is too large; name the size where memory runs out.

        Args:
            height: Rows, as the header says.
            width: Columns.
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


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory has run out, in the words of Python, torch or OpenCV."""
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError | OSError | cv2.error) and any(words in text for words in OUT_OF_MEMORY)
