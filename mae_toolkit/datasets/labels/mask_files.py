"""Files of masks: their values, and their sizes beside those of their images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mae_toolkit.datasets.labels.belonging import refuse_unreadable
from mae_toolkit.errors import UserError
from mae_toolkit.printing import printable, some

MOST_VALUES = 2**16  # of a PNG


def refuse_other_sizes(data: Path, images: Sequence[Path], sizes: Mapping[Path, tuple[int, int]]) -> None:
    """Refuse masks of another size than their images.

    A mask may also have the size of its image before the rotation by EXIF: a later check says what to do about that.

    Args:
        data: Folder of the labels.
        images: The images.
        sizes: Height and width of the mask of each, by the mask.

    Raises:
        UserError: With the number of such masks, and the first two.
    """
    headers = refuse_unreadable(data, images)
    other = [
        f'{printable(mask.name)} has {_format_size(size)}, {printable(header.path.name)} '
        f'{_format_size(header.size or (0, 0))}'
        for (mask, size), header in zip(sizes.items(), headers, strict=True)
        if size not in (header.size, header.stored_size)
    ]
    if other:
        raise UserError(
            f'{len(other)} of the {len(images)} masks of {printable(data)} have another size than their image '
            f'({some(other, 2)}): save them at the size of their images, without interpolation.'
        )


def _format_size(size: tuple[int, int]) -> str:
    """Write height and width as ``'640 x 480'``, the width first."""
    return f'{size[1]} x {size[0]}'


def count_pixels(mask: Path) -> tuple[dict[int, int], tuple[int, int]]:
    """Count the pixels of each value of a mask, and return its height and width.

    Args:
        mask: The file.

    Raises:
        UserError: If it is no PNG of values or palette indices.
    """
    labels = read_mask(mask)
    counts = np.bincount(labels.ravel())
    return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}, labels.shape[:2]


def read_mask(mask: Path) -> np.ndarray:
    """Read the values or palette indices of a mask, (H, W).

    Args:
        mask: The file.

    Raises:
        UserError: If it has colors instead, or its format does not keep values.
    """
    if mask.suffix.lower() in ('.jpg', '.jpeg'):
        raise UserError(f'{printable(mask)} is a JPEG, which does not keep values as they are: save masks as PNG.')
    try:
        with Image.open(mask) as picture:
            if picture.mode in ('RGB', 'RGBA', 'CMYK', 'LA'):
                raise UserError(
                    f'{printable(mask)} has colors, and not one value per pixel: save masks as PNG with a palette, or '
                    'as gray values, 0 for the first class, 1 for the second.'
                )
            labels = np.array(picture)
    except OSError as error:
        raise UserError(f'{printable(mask)} cannot be read ({error}).') from None
    if not np.can_cast(labels.dtype, np.int64) or labels.min() < 0 or labels.max() >= MOST_VALUES:
        raise UserError(
            f'{printable(mask)} has values from {labels.min():g} to {labels.max():g}, which are no classes: save masks '
            'as PNG of whole numbers, 0 for the first class, 1 for the second.'
        )
    return labels.astype(np.int64)
