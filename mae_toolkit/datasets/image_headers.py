"""Heights and widths from the first bytes of images, for decoders that would allocate memory before they say them."""

from itertools import pairwise

JPEG = b'\xff\xd8\xff'
PNG = b'\x89PNG\r\n\x1a\n'
JPEG_2000 = b'\xff\x4f\xff\x51'
JP2 = b'\0\0\0\x0cjP  '
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # the markers of a JPEG that are followed by its size
ALONE = frozenset((*range(0xD0, 0xDA), 0x01, 0xFF))  # those without a length


def read_header_size(data: bytes) -> tuple[int, int] | None:
    """Read height and width from a PNG, JPEG, WebP or JPEG 2000.

    Args:
        data: The content of the file, or its beginning.

    Returns:
        Height and width in the file's own orientation; None of any other format, or where the header is damaged.
    """
    if data.startswith(PNG):
        return _pair(data, 16, 4, 'big', transposed=True)
    if data.startswith(JPEG[:2]) and data[2:3] == b'\xff':
        return _jpeg_size(data)
    if data[:4] == b'RIFF' and data[8:12] == b'WEBP':
        return _webp_size(data)
    if data.startswith(JPEG_2000):
        return _jpeg_2000_size(data, 0)
    if data.startswith(JP2):
        return _jpeg_2000_size(data, data.find(JPEG_2000))
    return None


def _pair(data: bytes, start: int, width: int, order: str, transposed: bool) -> tuple[int, int] | None:
    """Two numbers of ``width`` bytes, one after the other."""
    if len(data) < start + 2 * width:
        return None
    ends = pairwise((start, start + width, start + 2 * width))
    first, second = (int.from_bytes(data[a:b], order) for a, b in ends)
    return (second, first) if transposed else (first, second)


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker in FRAMES:
            return _pair(data, place + 5, 2, 'big', transposed=False)
        if marker in ALONE:
            place += 1 if marker == 0xFF else 2
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4], 'big')
    return None


def _webp_size(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if kind == b'VP8X' and len(data) >= 30:
        return 1 + int.from_bytes(data[27:30], 'little'), 1 + int.from_bytes(data[24:27], 'little')
    if kind == b'VP8 ' and len(data) >= 30:
        return tuple(int.from_bytes(data[at : at + 2], 'little') & 0x3FFF for at in (28, 26))
    if kind == b'VP8L' and len(data) >= 25:
        bits = int.from_bytes(data[21:25], 'little')
        return 1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF)
    return None


def _jpeg_2000_size(data: bytes, start: int) -> tuple[int, int] | None:
    """The corner of the reference grid, which no image exceeds."""
    return None if start < 0 else _pair(data, start + 8, 4, 'big', transposed=True)
