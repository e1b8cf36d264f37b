"""Small files that promise very large images, made on the fly."""

import io
import struct
import zipfile
import zlib

import numpy as np
from PIL import Image


def png(width, height, depth=8, color=2, extra=b'', data=b'x'):
    """A PNG of any promised size, whatever it holds."""
    header = struct.pack('>IIBBBBB', width, height, depth, color, 0, 0, 0)
    parts = _chunk(b'IHDR', header) + extra + _chunk(b'IDAT', zlib.compress(data)) + _chunk(b'IEND', b'')
    return b'\x89PNG\r\n\x1a\n' + parts


def inflated_text(kind, size=1 << 24):
    """A chunk of compressed text (zTXt) or color profile (iCCP) that becomes very long."""
    return _chunk(kind, b'a\0\0' + zlib.compress(bytes(size)))


def jpeg(width, height):
    """A JPEG of any promised size with the data of 64 x 64 pixels."""
    data = bytearray(_encoded(Image.new('RGB', (64, 64)), 'JPEG'))
    place = data.index(b'\xff\xc0') + 5
    data[place : place + 4] = struct.pack('>HH', height, width)
    return bytes(data)


def array(shape, kind='<f4', data=b''):
    """A NumPy file of any promised shape."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {'descr': kind, 'fortran_order': False, 'shape': shape})
    return file.getvalue() + data


def archive(name, content):
    """A zip file with one deflated member."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as writer:
        writer.writestr(name, content)
    return file.getvalue()


def tiff(width, height, compression=8, strip=b'', extra=()):
    """A TIFF of one strip."""
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, compression), (262, 3, 1), (273, 4, 8)]
    tags = sorted([*tags, (277, 3, 1), (278, 4, height), (279, 4, len(strip)), *extra])
    entries = [struct.pack('<HHI' + ('HH' if kind == 3 else 'I'), tag, kind, 1, *((n, 0) if kind == 3 else (n,)))
               for tag, kind, n in tags]  # fmt: skip
    directory = struct.pack('<H', len(tags)) + b''.join(entries) + bytes(4)
    return b'II*\0' + struct.pack('<I', 8 + len(strip)) + strip + directory


def webp(width, height):
    """The header of a WebP with a canvas of any size."""
    sizes = (width - 1).to_bytes(3, 'little') + (height - 1).to_bytes(3, 'little')
    return b'RIFF' + struct.pack('<I', 30) + b'WEBPVP8X' + struct.pack('<I', 10) + bytes(4) + sizes


def too_large():
    """Files by name that promise more pixels than any memory holds."""
    lossless = bytearray(_encoded(Image.new('RGB', (64, 64)), 'WEBP', lossless=True))
    lossless[21:25] = struct.pack('<I', 16383 | 16383 << 14)
    tile = ((322, 4, 1 << 16), (323, 4, 1 << 16))
    return {
        'a.png': png(200_000, 200_000),
        'deep.png': png(200_000, 200_000, 16),
        'thin.png': png(2**31 - 1, 1),
        'a.jpg': jpeg(65535, 65535),
        'a.npy': array((200_000, 200_000)),
        'wide.npy': array((2, 2), '|V2000000000'),
        'a.npz': archive('a.npy', array((40_000, 40_000), '|u1', bytes(1 << 20))),
        'a.tif': tiff(200_000, 200_000),
        'tile.tif': tiff(64, 64, extra=tile),
        'jpeg.tif': tiff(64, 64, 7, jpeg(65535, 65535)),
        'png.tif': tiff(64, 64, 34933, png(60_000, 60_000)),
        'a.webp': webp(65536, 65536),
        'lossless.webp': bytes(lossless),
        'a.bmp': b'BM' + struct.pack('<IHHIIiiHHIIiiII', 54, 0, 0, 54, 40, 100_000, 100_000, 1, 24, *[0] * 6),
        'a.ppm': b'P6 100000 100000 255\n',
        'a.pgm': b'P2 100000 100000 255\n1 1',
        'a.gif': b'GIF89a' + struct.pack('<HHBBB', 65535, 65535, 0, 0, 0) + b'\x2c' + bytes(9) + b'\x02\x00;',
    }


def _encoded(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def _chunk(kind, body):
    return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))
