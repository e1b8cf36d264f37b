"""Arrays in NumPy's formats, .npy and .npz, without unpickling anything."""

from __future__ import annotations

import io
import math
import zipfile
from typing import IO

import numpy as np
from numpy.lib import format as npy

from mae_toolkit.datasets.functional import to_supported_dtype
from mae_toolkit.datasets.image_limits import ImageLimits

NPY_SIGNATURE = b'\x93NUMPY'
ZIP_SIGNATURES = (b'PK\3\4', b'PK\5\6')


def decode_npy(data: bytes, limits: ImageLimits) -> np.ndarray:
    """Decode an .npy to (H, W, C) in uint8, uint16 or float32.

    Args:
        data: The whole file.
        limits: The largest image that is accepted, by its header.

    Raises:
        ValueError: If it is too large or not an image.
    """
    return to_supported_dtype(_read_array(io.BytesIO(data), limits, len(data)))


def decode_npz(data: bytes, limits: ImageLimits) -> np.ndarray:
    """Decode the first array of an .npz to (H, W, C) in uint8, uint16 or float32.

    Its members may be compressed to a tiny fraction of their size, so the size in the header is checked first.

    Args:
        data: The whole file.
        limits: The largest image that is accepted, by its header.

    Raises:
        ValueError: If it is too large or contains no image.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        member = find_array_in_npz(archive)
        with archive.open(member) as file:
            return to_supported_dtype(_read_array(file, limits, member.file_size))


def find_array_in_npz(archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    """Find the first array in an .npz.

    Raises:
        ValueError: If it contains none.
    """
    for member in archive.infolist():
        if member.filename.endswith('.npy'):
            return member
    raise ValueError('the archive contains no array')


def read_array_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read the header of an array in NumPy's format.

    Returns:
        Shape, whether the array is in Fortran order, and dtype.

    Raises:
        ValueError: If the array is not an image.
    """
    version = npy.read_magic(file)
    reader = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran_order, dtype = reader(file)
    if dtype.hasobject:
        raise ValueError('it contains Python objects, which are not loaded')
    if len(shape) not in (2, 3) or min(shape) < 0:
        raise ValueError(f'an image is an array (H, W) or (H, W, C), not of shape {shape}')
    return shape, fortran_order, dtype


def _read_array(file: IO[bytes], limits: ImageLimits, available: int) -> np.ndarray:
    """Read an array in NumPy's format from a file with a number of available bytes."""
    shape, fortran_order, dtype = read_array_header(file)
    count = math.prod(shape) * dtype.itemsize
    with limits.decoding(shape[0], shape[1], count):
        if count > available:
            raise ValueError(
                f'the array is truncated: its header promises {count:,} bytes, and {available:,} are there'
            )
        array = np.empty(math.prod(shape), dtype)
        _read_into(array.view(np.uint8), file)
        return array.reshape(shape, order='F' if fortran_order else 'C')


def _read_into(array: np.ndarray, file: IO[bytes]) -> None:
    """Fill an array of bytes from a file."""
    rest = memoryview(array)  # type: ignore[arg-type]  # mypy does not know that arrays are buffers
    while len(rest):
        count = file.readinto(rest)  # type: ignore[attr-defined]
        if not count:
            raise ValueError(f'the array is truncated: {len(rest):,} of its {array.nbytes:,} bytes are missing')
        rest = rest[count:]
