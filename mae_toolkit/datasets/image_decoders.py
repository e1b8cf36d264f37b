"""Decoding of images other than plain JPEGs to arrays (H, W, C), within limits that are checked on the header."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from typing import IO, Any

import cv2
import numpy as np
import tifffile
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from PIL.ImageFile import ImageFile as PillowFile

from mae_toolkit.datasets.functional import apply_orientation, to_supported_dtype
from mae_toolkit.datasets.header_bytes import JPEG_SIGNATURE, PNG_SIGNATURE, read_header_size
from mae_toolkit.datasets.image_limits import ImageLimits
from mae_toolkit.datasets.numpy_files import NPY_SIGNATURE, ZIP_SIGNATURES, decode_npy, decode_npz

# What files begin with, as their names may be wrong: ImageNet has a PNG named .JPEG.
TIFF_SIGNATURES = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
# Formats whose decoders start no other programs. The classes are used, not Image.open, which checks a limit of the
# whole process that belongs to the program and not to this module.
PILLOW_READERS = (
    (JPEG_SIGNATURE, JpegImagePlugin.JpegImageFile),
    (PNG_SIGNATURE, PngImagePlugin.PngImageFile),
    (b'RIFF', WebPImagePlugin.WebPImageFile),
    (b'BM', BmpImagePlugin.BmpImageFile),
    (b'P', PpmImagePlugin.PpmImageFile),
    (b'GIF8', GifImagePlugin.GifImageFile),
    (TIFF_SIGNATURES, TiffImagePlugin.TiffImageFile),
)
ORIENTATION_TAG = 274  # the EXIF and TIFF tag
SUBSAMPLING_TAG = 530  # of YCbCr in TIFF
EXIF_MARKERS = (b'Exif\0', b'eXIf')  # in a JPEG, and in a PNG
# By Pillow's mode, where it is not one byte per channel.
BYTES_PER_PIXEL = {'I': 4, 'F': 4, 'I;16': 2, 'I;16L': 2, 'I;16B': 2, 'P': 4, 'PA': 4}
# Compressions of TIFF whose strips and tiles are files with headers of their own.
COMPRESSIONS_WITH_HEADERS = (
    'JPEG',
    'OJPEG',
    'PNG',
    'WEBP',
    'JPEG2000',
    'APERIO_JP2000_RGB',
    'APERIO_JP2000_YCBC',
    'APERIO_JP2000',
)


def decode_image_bytes(data: bytes, limits: ImageLimits) -> np.ndarray:
    """Decode the content of an image file of any format but a plain JPEG.

    Args:
        data: The whole file.
        limits: The largest image that is accepted, by its header.

    Returns:
        (H, W, C) uint8, uint16 or float32, with its EXIF orientation applied.

    Raises:
        ValueError: If it is too large, damaged or not an image; decoders raise other errors, too.
    """
    if data.startswith(TIFF_SIGNATURES):
        return decode_tiff(data, limits)
    if data.startswith(NPY_SIGNATURE):
        return decode_npy(data, limits)
    if data.startswith(ZIP_SIGNATURES):
        return decode_npz(data, limits)
    # 16 bits with more than gray (types 2, 4, 6)
    if data.startswith(PNG_SIGNATURE) and data[24:25] == b'\x10' and data[25:26] in (b'\2', b'\4', b'\6'):
        return decode_16_bit_png(data, limits)
    return decode_with_pillow(data, limits)


def open_with_pillow(file: IO[bytes]) -> PillowFile:
    """Open an image of one of the known formats with Pillow, without decoding it yet.

    Raises:
        ValueError: If its format is unknown, or its header damaged.
    """
    start = file.read(16)
    file.seek(0)
    for signature, reader in PILLOW_READERS:
        if start.startswith(signature):
            try:
                return reader(file)
            except SyntaxError as error:
                raise ValueError(f'its header is damaged ({error})') from error
    raise ValueError('its content is not of a known image format')


def decode_with_pillow(data: bytes, limits: ImageLimits) -> np.ndarray:
    """Decode the first image of a file with Pillow; see :func:`decode_image_bytes`."""
    promised = read_header_size(data)
    if promised:  # before Pillow's reader of WebP allocates memory
        limits.check_pixels(*promised, 'its header promises')
    picture: Image.Image = open_with_pillow(io.BytesIO(data))
    width, height = picture.size
    pixel_size = BYTES_PER_PIXEL.get(picture.mode, len(picture.getbands()))
    with limits.decoding(height, width, height * width * pixel_size):
        return convert_picture(picture)


def convert_picture(picture: Image.Image) -> np.ndarray:
    """Convert a picture of Pillow, of any mode, to an array (H, W) or (H, W, C), with its EXIF orientation applied."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode == 'I':  # holds 16 bits in 32
        return to_supported_dtype(np.array(picture).astype(np.uint16))
    if picture.mode in ('P', 'PA'):
        picture = picture.convert('RGBA' if 'transparency' in picture.info else 'RGB')
    elif picture.mode == '1':
        picture = picture.convert('L')
    elif picture.mode in ('CMYK', 'YCbCr', 'LAB', 'HSV', 'RGBX', 'RGBa'):
        picture = picture.convert('RGB')
    return to_supported_dtype(np.array(picture))  # a copy: Pillow's own memory may not be written to


def decode_16_bit_png(data: bytes, limits: ImageLimits) -> np.ndarray:
    """Decode a color PNG of 16 bits per channel, which Pillow would cut to 8."""
    height, width = read_header_size(data) or (0, 0)
    with limits.decoding(height, width, height * width * 2 * {2: 3, 4: 2, 6: 4}[data[25]]):
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if image is None:
            raise ValueError('the PNG cannot be decoded')
        image = np.ascontiguousarray(image[..., [2, 1, 0, 3][: image.shape[-1]]])
    return apply_orientation(image, read_orientation(data))


def decode_tiff(data: bytes, limits: ImageLimits) -> np.ndarray:
    """Decode the first series of a TIFF, which may have any number of channels, 16 bits or floats."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        series, height, width = read_first_series(file)
        page, axes = series.keyframe, series.axes
        with limits.decoding(height, width, math.prod(series.shape) * np.dtype(series.dtype).itemsize):
            _check_segments(series, data, limits)
            if _needs_pillow(page):
                return decode_with_pillow(data, limits)
            return _convert_series(series.asarray(), axes, page)


def read_first_series(file: tifffile.TiffFile) -> tuple[tifffile.TiffPageSeries, int, int]:
    """Return the first series of a TIFF, and its height and width as stored, before orientation.

    Raises:
        ValueError: If it contains no image.
    """
    if not file.pages or not file.series:
        raise ValueError('the TIFF contains no image, or is truncated')
    series = file.series[0]
    sizes = dict(zip(series.axes, series.shape, strict=True))
    if 'Y' not in sizes or 'X' not in sizes:
        raise ValueError(f'the TIFF has the axes {series.axes}, without rows and columns')
    return series, sizes['Y'], sizes['X']


def _convert_series(image: np.ndarray, axes: str, page: tifffile.TiffPage) -> np.ndarray:
    """Convert an array with axes such as ``'CYX'`` to (H, W, C), with its palette and orientation applied."""
    image = np.moveaxis(image, (axes.index('Y'), axes.index('X')), (0, 1))
    image = image.reshape(*image.shape[:2], -1)
    if page.colormap is not None and image.shape[2] == 1:
        image = (page.colormap[:, image[..., 0]] >> 8).astype(np.uint8).transpose(1, 2, 0)
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and image.dtype.kind in 'bu':
        image = ~image if image.dtype.kind == 'b' else (1 << page.bitspersample) - 1 - image
    if _is_plain_ycbcr(page):
        image = np.array(Image.fromarray(np.ascontiguousarray(image), 'YCbCr').convert('RGB'))
    tag = page.tags.get(ORIENTATION_TAG)
    return apply_orientation(to_supported_dtype(image), int(tag.value) if tag is not None else 1)


def _check_segments(series: tifffile.TiffPageSeries, data: bytes, limits: ImageLimits) -> None:
    """Refuse strips and tiles that are truncated, or that would become larger than an image may be."""
    pages: Iterable[Any] = series.pages
    for page in pages:
        if max(map(sum, zip(page.dataoffsets, page.databytecounts, strict=True)), default=0) > len(data):
            raise ValueError('the file is truncated')  # a truncated strip may still decode, to a part of it
    page = series.keyframe
    if page.is_tiled:
        limits.check_pixels(page.tilelength, page.tilewidth, 'each of its tiles has')
    if getattr(page.compression, 'name', '') not in COMPRESSIONS_WITH_HEADERS:
        return
    for start, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        promised = read_header_size(data[start : start + count])
        if promised:
            limits.check_pixels(*promised, 'one of its strips or tiles promises')


def _needs_pillow(page: tifffile.TiffPage) -> bool:
    """Return whether a TIFF is CMYK or YCbCr, which tifffile does not convert to RGB."""
    if page.photometric == tifffile.PHOTOMETRIC.SEPARATED:  # with other inks, or deeper: channels like any others
        return page.samplesperpixel == 4 and page.bitspersample == 8
    is_jpeg = page.compression == tifffile.COMPRESSION.JPEG
    return page.photometric == tifffile.PHOTOMETRIC.YCBCR and not is_jpeg and not _is_plain_ycbcr(page)


def _is_plain_ycbcr(page: tifffile.TiffPage) -> bool:
    """Return whether a TIFF holds YCbCr of 8 bits, neither compressed nor subsampled, which Pillow 12 cannot read."""
    subsampling = page.tags.get(SUBSAMPLING_TAG)
    return (
        page.photometric == tifffile.PHOTOMETRIC.YCBCR
        and page.compression == tifffile.COMPRESSION.NONE
        and (page.samplesperpixel, page.bitspersample) == (3, 8)
        and subsampling is not None
        and tuple(subsampling.value) == (1, 1)
    )


def read_orientation(data: bytes) -> int:
    """Read the EXIF orientation, 1 to 8, of a JPEG or PNG; 1 if there is none."""
    if not any(mark in data[: 1 << 16] for mark in EXIF_MARKERS):  # Pillow is slow
        return 1
    try:
        value = open_with_pillow(io.BytesIO(data)).getexif().get(ORIENTATION_TAG, 1)
    except (OSError, ValueError, SyntaxError):
        return 1
    return value if value in range(1, 9) else 1
