"""Headers of image files: size and EXIF orientation, read without decoding, by several threads."""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import tifffile
from tqdm import tqdm

from mae_toolkit.datasets.header_bytes import read_header_size
from mae_toolkit.datasets.image_decoders import (
    ORIENTATION_TAG,
    TIFF_SIGNATURES,
    open_with_pillow,
    read_first_series,
)
from mae_toolkit.datasets.image_limits import DEFAULT_LIMITS, ImageLimits, ImageTooLargeError
from mae_toolkit.datasets.numpy_files import NPY_SIGNATURE, ZIP_SIGNATURES, find_array_in_npz, read_array_header

THREADS = 8
HEADER_BYTES = 4096  # in which the formats that have a size in their header have it
BATCH_SIZE = 64  # images that a thread reads at a time
SHOW_PROGRESS = 5000  # images from which a progress bar is shown
MISSING = 'there is no such file'


@dataclass(frozen=True)
class ImageHeader:
    """The size of an image file, as read from its header.

    Attributes:
        path: The file.
        size: Height and width after EXIF orientation; None if the file is missing or its header cannot be read.
        reason: Why ``size`` is None.
        orientation: EXIF orientation, 1 to 8; from 5 on, height and width are swapped.
        is_too_large: Whether the header promises more pixels, or the file has more bytes, than are allowed.
    """

    path: Path
    size: tuple[int, int] | None
    reason: str = ''
    orientation: int = 1
    is_too_large: bool = False

    @property
    def is_missing(self) -> bool:
        """Return whether the file is missing."""
        return self.reason == MISSING

    @property
    def stored_size(self) -> tuple[int, int] | None:
        """Return height and width as stored, before EXIF orientation."""
        return self.size[::-1] if self.size and self.orientation >= 5 else self.size


def read_image_headers(paths: Sequence[Path]) -> list[ImageHeader]:
    """Read the headers of image files in the given order, without decoding them; a bad file has a ``reason``."""
    parts = [paths[i : i + BATCH_SIZE] for i in range(0, len(paths), BATCH_SIZE)]
    headers: list[ImageHeader] = []
    bar = tqdm(None, 'reading image headers', len(paths), leave=False, delay=1, disable=len(paths) < SHOW_PROGRESS)
    with ThreadPoolExecutor(THREADS) as pool, bar:
        for part in pool.map(lambda part: [read_image_header(path) for path in part], parts):
            headers += part
            bar.update(len(part))
    return headers


def read_image_header(path: Path, limits: ImageLimits = DEFAULT_LIMITS) -> ImageHeader:
    """Read the header of an image file, without decoding it.

    Args:
        path: The file.
        limits: The largest image that is accepted; a larger one has a ``reason`` instead of a size.
    """
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


def _read_size(file: IO[bytes], limits: ImageLimits) -> tuple[tuple[int, int], int]:
    """Return height and width as stored, and the orientation."""
    start = file.read(HEADER_BYTES)
    file.seek(0)
    if start.startswith((NPY_SIGNATURE, *ZIP_SIGNATURES)):
        return _read_array_size(file), 1
    if start.startswith(TIFF_SIGNATURES):
        return _read_tiff_size(file)
    if promised := read_header_size(start):  # before Pillow's reader of WebP allocates memory
        limits.check_pixels(*promised, 'its header promises')
    with open_with_pillow(file) as picture:
        # Pillow looks for EXIF behind a PNG's pixels, too, and decodes all of them for it.
        known = picture.format != 'PNG' or 'exif' in picture.info
        value = picture.getexif().get(ORIENTATION_TAG, 1) if known else 1
        return (picture.height, picture.width), value if value in range(1, 9) else 1


def _read_tiff_size(file: IO[bytes]) -> tuple[tuple[int, int], int]:
    with tifffile.TiffFile(file) as tiff:
        series, height, width = read_first_series(tiff)
        tag = series.keyframe.tags.get(ORIENTATION_TAG)
    return (height, width), int(tag.value) if tag is not None and tag.value in range(1, 9) else 1


def _read_array_size(file: IO[bytes]) -> tuple[int, int]:
    if file.read(2) != b'PK':
        file.seek(0)
        shape = read_array_header(file)[0]
        return shape[0], shape[1]
    with zipfile.ZipFile(file) as archive, archive.open(find_array_in_npz(archive)) as member:
        shape = read_array_header(member)[0]
        return shape[0], shape[1]
