"""Sizes of image files, read from their headers in threads."""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import tifffile
from tqdm import tqdm

from mae_toolkit.datasets.image_decoders import (
    NPY_SIGNATURE,
    ORIENTATION_TAG,
    TIFF_SIGNATURES,
    ZIP_SIGNATURES,
    find_array_in_npz,
    open_with_pillow,
    read_array_header,
    read_first_series,
)
from mae_toolkit.datasets.image_headers import read_header_size
from mae_toolkit.datasets.image_limits import ImageLimits, ImageTooLargeError

THREADS = 8
HEADER = 4096  # bytes in which formats that announce their size do so
LIMITS = ImageLimits()
PART = 64  # images that a thread looks at at a time
SHOW_PROGRESS = 5000  # images that take long enough for a progress bar
MISSING = 'there is no such file'


@dataclass(frozen=True)
class ImageHeader:
    """What the header of an image file says.

    Attributes:
        path: The file.
        size: Height and width after EXIF orientation; None if there is no file, or its header cannot be read.
        reason: Why there is no size.
        orientation: EXIF orientation, 1 to 8; from 5 on, height and width are exchanged.
        is_too_large: Whether the header promises more pixels, or the file has more bytes, than are allowed.
    """

    path: Path
    size: tuple[int, int] | None
    reason: str = ''
    orientation: int = 1
    is_too_large: bool = False

    @property
    def is_missing(self) -> bool:
        """Whether there is no such file."""
        return self.reason == MISSING

    @property
    def stored_size(self) -> tuple[int, int] | None:
        """Height and width of the pixels in the file, before EXIF orientation."""
        return self.size[::-1] if self.size and self.orientation >= 5 else self.size


def read_image_headers(paths: Sequence[Path]) -> list[ImageHeader]:
    """Read the headers of image files, in the given order; nothing is decoded, and nothing is raised for a bad file."""
    parts = [paths[i : i + PART] for i in range(0, len(paths), PART)]
    headers: list[ImageHeader] = []
    bar = tqdm(None, 'looking at images', len(paths), leave=False, delay=1, disable=len(paths) < SHOW_PROGRESS)
    with ThreadPoolExecutor(THREADS) as pool, bar:
        for part in pool.map(lambda part: [read_image_header(path) for path in part], parts):
            headers += part
            bar.update(len(part))
    return headers


def read_image_header(path: Path, limits: ImageLimits = LIMITS) -> ImageHeader:
    """Read the header of one image file, which counts as unreadable if it is larger than the limits allow."""
    path = Path(path)
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            return ImageHeader(path, None, 'it is not a regular file')  # reading a pipe would wait forever
        if status.st_size == 0:
            return ImageHeader(path, None, 'the file is empty')
        limits.check_bytes(status.st_size, 'the file has')
        with open(path, 'rb') as file:
            size, orientation = _read_size(file, limits)
        limits.check_pixels(*size, 'its header promises')
    except (FileNotFoundError, NotADirectoryError):
        return ImageHeader(path, None, MISSING)
    except ImageTooLargeError as error:
        return ImageHeader(path, None, str(error), is_too_large=True)
    except Exception as error:  # a damaged header can make a decoder raise anything
        text = getattr(error, 'strerror', None) or str(error).strip() or type(error).__name__
        return ImageHeader(path, None, text.splitlines()[0])
    if 0 in size:
        return ImageHeader(path, None, f'the image is empty: {size[0]} x {size[1]}')
    return ImageHeader(path, size[::-1] if orientation >= 5 else size, '', orientation)


def _read_size(file: BinaryIO, limits: ImageLimits) -> tuple[tuple[int, int], int]:
    """Return stored height and width, and the orientation."""
    start = file.read(HEADER)
    file.seek(0)
    if start.startswith((NPY_SIGNATURE, *ZIP_SIGNATURES)):
        return _array_size(file), 1
    if start.startswith(TIFF_SIGNATURES):
        return _tiff_size(file)
    if promised := read_header_size(start):  # before Pillow's reader of WebP allocates memory
        limits.check_pixels(*promised, 'its header promises')
    with open_with_pillow(file) as picture:
        # Pillow looks for EXIF behind a PNG's pixels, too, and decodes all of them for it.
        known = picture.format != 'PNG' or 'exif' in picture.info
        value = picture.getexif().get(ORIENTATION_TAG, 1) if known else 1
        return (picture.height, picture.width), value if value in range(1, 9) else 1


def _tiff_size(file: BinaryIO) -> tuple[tuple[int, int], int]:
    with tifffile.TiffFile(file) as tiff:
        series, height, width = read_first_series(tiff)
        tag = series.keyframe.tags.get(ORIENTATION_TAG)
    return (height, width), int(tag.value) if tag is not None and tag.value in range(1, 9) else 1


def _array_size(file: BinaryIO) -> tuple[int, int]:
    if file.read(2) != b'PK':
        file.seek(0)
        return read_array_header(file)[0][:2]
    with zipfile.ZipFile(file) as archive, archive.open(find_array_in_npz(archive)) as member:
        return read_array_header(member)[0][:2]
