"""Measure one image for the fingerprint of its folder, on a reduced copy where the format allows it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mae_toolkit.datasets.image_io import BrokenImageError, decode_image, open_image
from mae_toolkit.datasets.image_limits import DEFAULT_LIMITS, ImageLimits
from mae_toolkit.datasets.near_duplicates import hash_image, make_thumbnail

LEAST_SIDE = 128  # pixels to which a JPEG may be reduced: about the scale of the crops of a training
MOST_SAMPLES = 1 << 16  # pixels of an image from which mean and deviation are computed


@dataclass(frozen=True)
class ImageMeasures:
    """What is known of one image.

    Attributes:
        size: Height and width after EXIF orientation.
        dtype: ``'uint8'``, ``'uint16'`` or ``'float32'``.
        sums: (C,) mean of each channel.
        squares: (C,) mean of the squares of each channel.
        spread: Standard deviation of the gray image.
        hash: 16 bytes, see :func:`~mae_toolkit.datasets.near_duplicates.hash_image`.
        thumbnail: (16, 16) uint8.
        has_alpha: Whether the last channel of 2 or 4 is the opacity, as in a PNG or WebP.
    """

    size: tuple[int, int]
    dtype: str
    sums: np.ndarray
    squares: np.ndarray
    spread: float
    hash: np.ndarray
    thumbnail: np.ndarray
    has_alpha: bool

    @property
    def channels(self) -> int:
        """Return the number of channels, without opacity."""
        return len(self.sums) - self.has_alpha


def measure_image(path: Path, limits: ImageLimits = DEFAULT_LIMITS) -> ImageMeasures | BrokenImageError:
    """Measure an image file; a file that cannot be read gives the error instead, so that processes can pass it on."""
    try:
        file = open_image(path, limits)
        image = decode_image(file, (LEAST_SIDE, LEAST_SIDE))  # (H, W, C)
    except BrokenImageError as error:
        return BrokenImageError(error.path, error.reason)  # without the stack, which cannot be sent
    step = max(1, int((image.shape[0] * image.shape[1] / MOST_SAMPLES) ** 0.5))
    sampled = image[::step, ::step].astype(np.float64)
    if not np.isfinite(sampled).all():
        return BrokenImageError(path, 'it has values that are not finite')
    has_alpha, gray = _has_alpha(image, path), average_channels(sampled, path)
    return ImageMeasures(
        size=file.size,
        dtype=str(image.dtype),
        sums=sampled.mean(axis=(0, 1)),
        squares=(sampled**2).mean(axis=(0, 1)),
        spread=float(gray.std()),
        hash=hash_image(gray),
        thumbnail=make_thumbnail(gray),
        has_alpha=has_alpha,
    )


def average_channels(image: np.ndarray, path: str | Path) -> np.ndarray:
    """Average the channels of an image (H, W, C), without its opacity, to one (H, W)."""
    return image[..., : image.shape[2] - _has_alpha(image, path)].mean(axis=2, dtype=np.float64)


def _has_alpha(image: np.ndarray, path: str | Path) -> bool:
    return image.shape[2] in (2, 4) and Path(path).suffix.lower() not in ('.tif', '.tiff', '.npy', '.npz')
