"""Arrays (H, W, C) from the bytes of images that are no plain JPEG, each within limits that its header is held to."""

import io
import math
import zipfile
from typing import BinaryIO

import cv2
import numpy as np
import tifffile
from numpy.lib import format as npy
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from PIL.ImageFile import ImageFile as PillowFile

from mae_toolkit.datasets.image_headers import JPEG, PNG, read_header_size
from mae_toolkit.datasets.image_limits import ImageLimits

# What files begin with; names lie (ImageNet has a PNG named .JPEG).
TIFF = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
ARRAY = b'\x93NUMPY'
ARCHIVE = (b'PK\3\4', b'PK\5\6')
# No format of which a decoder starts other programs. The classes are used, not Image.open, which checks a limit of the
# whole process that belongs to the program and not to this module.
READERS = (
    (JPEG, JpegImagePlugin.JpegImageFile),
    (PNG, PngImagePlugin.PngImageFile),
    (b'RIFF', WebPImagePlugin.WebPImageFile),
    (b'BM', BmpImagePlugin.BmpImageFile),
    (b'P', PpmImagePlugin.PpmImageFile),
    (b'GIF8', GifImagePlugin.GifImageFile),
    (TIFF, TiffImagePlugin.TiffImageFile),
)
ORIENTATION = 274  # the EXIF and TIFF tag
EXIF = (b'Exif\0', b'eXIf')  # what announces it in a JPEG, and in a PNG
WIDE_MODES = {'I': 4, 'F': 4, 'I;16': 2, 'I;16L': 2, 'I;16B': 2, 'P': 4, 'PA': 4}  # bytes of a decoded pixel
# Compressions of TIFF whose parts are files with headers of their own.
OWN_HEADERS = ('JPEG', 'OJPEG', 'PNG', 'WEBP', 'JPEG2000', 'APERIO_JP2000_RGB', 'APERIO_JP2000_YCBC', 'APERIO_JP2000')


def decode_image_bytes(data: bytes, limits: ImageLimits) -> np.ndarray:
    """Decode the content of an image file, a plain JPEG's aside.

    Args:
        data: The whole file.
        limits: What its header is held to.

    Returns:
        (H, W, C) uint8, uint16 or float32, turned as its EXIF orientation asks.

    Raises:
        ValueError: If it is too large, damaged or no image; decoders raise other errors, too.
    """
    if data.startswith(TIFF):
        return decode_tiff(data, limits)
    if data.startswith(ARRAY):
        return to_supported_dtype(_read_array(io.BytesIO(data), limits, len(data)))
    if data.startswith(ARCHIVE):
        return decode_archive(data, limits)
    # 16 bits with more than gray (types 2, 4, 6)
    if data.startswith(PNG) and data[24:25] == b'\x10' and data[25:26] in (b'\2', b'\4', b'\6'):
        return decode_deep_png(data, limits)
    return decode_with_pillow(data, limits)


def open_with_pillow(file: BinaryIO) -> PillowFile:
    """Open an image of one of the known formats with Pillow, which does not decode it yet.

    Raises:
        ValueError: If it is of none of them.
    """
    start = file.read(16)
    file.seek(0)
    for mark, reader in READERS:
        if start.startswith(mark):
            try:
                return reader(file)
            except SyntaxError as error:
                raise ValueError(f'its header is damaged ({error})') from error
    raise ValueError('its content is of no image format that is known')


def decode_with_pillow(data: bytes, limits: ImageLimits) -> np.ndarray:
    """Decode the first image of a file; see :func:`decode_image_bytes`."""
    promised = read_header_size(data)
    if promised:  # before Pillow's reader of WebP allocates memory
        limits.check_pixels(*promised, 'its header promises')
    picture = open_with_pillow(io.BytesIO(data))
    width, height = picture.size
    deep = picture.mode.startswith(('I', 'F'))
    depth = WIDE_MODES.get(picture.mode, len(picture.getbands()))
    with limits.decoding(height, width, height * width * depth):
        picture = ImageOps.exif_transpose(picture)
        if picture.mode == 'I':  # holds 16 bits in 32
            return to_supported_dtype(np.array(picture).astype(np.uint16))
        if picture.mode in ('P', 'PA'):
            picture = picture.convert('RGBA' if 'transparency' in picture.info else 'RGB')
        elif picture.mode == '1':
            picture = picture.convert('L')
        elif not deep and picture.mode in ('CMYK', 'YCbCr', 'LAB', 'HSV', 'RGBX', 'RGBa'):
            picture = picture.convert('RGB')
        return to_supported_dtype(np.array(picture))  # a copy: Pillow's own memory may not be written to


def decode_deep_png(data: bytes, limits: ImageLimits) -> np.ndarray:
    """Decode a color PNG of 16 bits, which Pillow would cut to 8."""
    height, width = read_header_size(data) or (0, 0)
    with limits.decoding(height, width, height * width * 2 * {2: 3, 4: 2, 6: 4}[data[25]]):
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if image is None:
            raise ValueError('the PNG cannot be decoded')
        image = np.ascontiguousarray(image[..., [2, 1, 0, 3][: image.shape[-1]]])
    return orient(image, read_orientation(data))


def decode_tiff(data: bytes, limits: ImageLimits) -> np.ndarray:
    """Decode the first series of a TIFF: any number of channels, 16 bits, floats."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        series, height, width = read_first_series(file)
        page, axes = series.keyframe, series.axes
        with limits.decoding(height, width, math.prod(series.shape) * np.dtype(series.dtype).itemsize):
            _check_parts(series, data, limits)
            if _needs_pillow(page):
                return decode_with_pillow(data, limits)
            return _from_series(series.asarray(), axes, page)


def read_first_series(file: tifffile.TiffFile) -> tuple[tifffile.TiffPageSeries, int, int]:
    """Return the first series of a TIFF, and its height and width as they lie in the file.

    Raises:
        ValueError: If it holds no image.
    """
    if not file.pages or not file.series:
        raise ValueError('the TIFF holds no image, or is truncated')
    series = file.series[0]
    sizes = dict(zip(series.axes, series.shape, strict=True))
    if 'Y' not in sizes or 'X' not in sizes:
        raise ValueError(f'the TIFF has the axes {series.axes}, no rows and columns')
    return series, sizes['Y'], sizes['X']


def _from_series(image, axes, page):
    image = np.moveaxis(image, (axes.index('Y'), axes.index('X')), (0, 1))
    image = image.reshape(*image.shape[:2], -1)
    if page.colormap is not None and image.shape[2] == 1:
        image = (page.colormap[:, image[..., 0]] >> 8).astype(np.uint8).transpose(1, 2, 0)
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and image.dtype.kind in 'bu':
        image = ~image if image.dtype.kind == 'b' else (1 << page.bitspersample) - 1 - image
    tag = page.tags.get(ORIENTATION)
    return orient(to_supported_dtype(image), int(tag.value) if tag is not None else 1)


def _check_parts(series, data, limits):
    """Refuse strips and tiles that are cut off, and those that would become larger than the image may be."""
    for page in series.pages:
        if max(map(sum, zip(page.dataoffsets, page.databytecounts, strict=True)), default=0) > len(data):
            raise ValueError('the file is truncated')  # a strip that is cut off may still decode, to a part of it
    page = series.keyframe
    if page.is_tiled:
        limits.check_pixels(page.tilelength, page.tilewidth, 'each of its tiles has')
    if getattr(page.compression, 'name', '') not in OWN_HEADERS:
        return
    for start, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        promised = read_header_size(data[start : start + count])
        if promised:
            limits.check_pixels(*promised, 'one of its parts promises')


def _needs_pillow(page):
    """Whether a TIFF's bytes are inks, or light and color, which tifffile leaves as they are."""
    if page.photometric == tifffile.PHOTOMETRIC.SEPARATED:  # with other inks, or deeper: channels like any others
        return page.samplesperpixel == 4 and page.bitspersample == 8
    return page.photometric == tifffile.PHOTOMETRIC.YCBCR and page.compression != tifffile.COMPRESSION.JPEG


def decode_archive(data: bytes, limits: ImageLimits) -> np.ndarray:
    """Decode the first array of an .npz, whose members may be compressed to nearly nothing."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        member = find_array(archive)
        with archive.open(member) as file:
            return to_supported_dtype(_read_array(file, limits, member.file_size))


def find_array(archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    """Return the first array of an .npz.

    Raises:
        ValueError: If it holds none.
    """
    for member in archive.infolist():
        if member.filename.endswith('.npy'):
            return member
    raise ValueError('the archive holds no array')


def read_array_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read shape, whether columns come first, and type of an array of NumPy's format.

    Raises:
        ValueError: If it is no image.
    """
    version = npy.read_magic(file)
    reader = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, columns_first, dtype = reader(file)
    if dtype.hasobject:
        raise ValueError('it holds Python objects, which are not loaded')
    if len(shape) not in (2, 3) or min(shape) < 0:
        raise ValueError(f'an image is an array (H, W) or (H, W, C), not of shape {shape}')
    return shape, columns_first, dtype


def _read_array(file, limits, available):
    """An array of NumPy's format, from a file of so many bytes."""
    shape, columns_first, dtype = read_array_header(file)
    count = math.prod(shape) * dtype.itemsize
    with limits.decoding(shape[0], shape[1], count):
        if count > available:
            raise ValueError(
                f'the array is truncated: its header promises {count:,} bytes, and {available:,} are there'
            )
        array = np.empty(math.prod(shape), dtype)
        _fill(array.view(np.uint8), file)
        return array.reshape(shape, order='F' if columns_first else 'C')


def _fill(array, file):
    """Fill an array of bytes from a file."""
    rest = memoryview(array)
    while len(rest):
        count = file.readinto(rest)
        if not count:
            raise ValueError(f'the array is truncated: {len(rest):,} of its {array.nbytes:,} bytes are missing')
        rest = rest[count:]


def to_supported_dtype(image: np.ndarray) -> np.ndarray:
    """Convert any array (H, W) or (H, W, C) to uint8, uint16 or float32 (H, W, C).

    Raises:
        ValueError: If it is empty, or holds no numbers.
    """
    image = image if image.ndim == 3 else image[..., None]
    if 0 in image.shape:
        raise ValueError(f'the image is empty: {image.shape}')
    if image.dtype == bool:
        return image.astype(np.uint8) * 255
    if image.dtype.kind not in 'uif':
        raise ValueError(f'numbers of type {image.dtype} are no image')
    kept = image.dtype.newbyteorder('=')
    with np.errstate(over='raise'):  # a number too large for float32 would become infinite
        return image.astype(kept if kept in (np.uint8, np.uint16, np.float32) else np.float32, copy=False)


def orient(image: np.ndarray, orientation: int) -> np.ndarray:
    """Turn an image (H, W, C) as its EXIF orientation, 1 to 8, asks."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    rows = slice(None, None, -1) if orientation in (3, 4, 7, 8) else slice(None)
    columns = slice(None, None, -1) if orientation in (2, 3, 6, 7) else slice(None)
    return image[rows, columns]


def read_orientation(data: bytes) -> int:
    """Read the EXIF orientation, 1 to 8, of a JPEG or PNG; Pillow is asked only where there is any EXIF."""
    if not any(mark in data[: 1 << 16] for mark in EXIF):
        return 1
    try:
        value = open_with_pillow(io.BytesIO(data)).getexif().get(ORIENTATION, 1)
    except (OSError, ValueError, SyntaxError):
        return 1
    return value if value in range(1, 9) else 1
