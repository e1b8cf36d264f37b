"""Height and width from the first bytes of an image, for decoders that would allocate memory before they tell them."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

JPEG_SIGNATURE = b'\xff\xd8\xff'
PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'
JPEG_2000_SIGNATURE = b'\xff\x4f\xff\x51'
JP2_SIGNATURE = b'\0\0\0\x0cjP  '
JPEG_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # which are followed by the size
JPEG_MARKERS_WITHOUT_LENGTH = frozenset((*range(0xD0, 0xDA), 0x01, 0xFF))


def read_header_size(data: bytes) -> tuple[int, int] | None:
    """Read height and width from the header of a PNG, JPEG, WebP or JPEG 2000.

    Args:
        data: The content of the file, or its beginning.

    Returns:
        Height and width as stored, before EXIF orientation; None for any other format or a damaged header.
    """
    if data.startswith(PNG_SIGNATURE):
        return _read_pair(data, 16, 4, 'big', swapped=True)
    if data.startswith(JPEG_SIGNATURE[:2]) and data[2:3] == b'\xff':
        return _read_jpeg_size(data)
    if data[:4] == b'RIFF' and data[8:12] == b'WEBP':
        return _read_webp_size(data)
    if data.startswith(JPEG_2000_SIGNATURE):
        return _read_jpeg_2000_size(data, 0)
    if data.startswith(JP2_SIGNATURE):
        return _read_jpeg_2000_size(data, data.find(JPEG_2000_SIGNATURE))
    return None


def _read_pair(
    data: bytes, start: int, num_bytes: int, byte_order: Literal['big', 'little'], swapped: bool
) -> tuple[int, int] | None:
    """Read two numbers of ``num_bytes`` each, one behind the other; None if the data ends before."""
    if len(data) < start + 2 * num_bytes:
        return None
    ends = pairwise((start, start + num_bytes, start + 2 * num_bytes))
    first, second = (int.from_bytes(data[a:b], byte_order) for a, b in ends)
    return (second, first) if swapped else (first, second)


def _read_jpeg_size(data: bytes) -> tuple[int, int] | None:
    offset = 2
    while offset + 4 <= len(data) and data[offset] == 0xFF:
        marker = data[offset + 1]
        if marker in JPEG_FRAME_MARKERS:
            return _read_pair(data, offset + 5, 2, 'big', swapped=False)
        if marker in JPEG_MARKERS_WITHOUT_LENGTH:
            offset += 1 if marker == 0xFF else 2
        else:
            offset += 2 + int.from_bytes(data[offset + 2 : offset + 4], 'big')
    return None


def _read_webp_size(data: bytes) -> tuple[int, int] | None:
    chunk = data[12:16]
    if chunk == b'VP8X' and len(data) >= 30:
        return 1 + int.from_bytes(data[27:30], 'little'), 1 + int.from_bytes(data[24:27], 'little')
    if chunk == b'VP8 ' and len(data) >= 30:
        height, width = (int.from_bytes(data[start : start + 2], 'little') & 0x3FFF for start in (28, 26))
        return height, width
    if chunk == b'VP8L' and len(data) >= 25:
        bits = int.from_bytes(data[21:25], 'little')
        return 1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF)
    return None


def _read_jpeg_2000_size(data: bytes, start: int) -> tuple[int, int] | None:
    """Read the corner of the reference grid, which no image exceeds."""
    return None if start < 0 else _read_pair(data, start + 8, 4, 'big', swapped=True)
