"""Masks of COCO's run lengths: whether they are whole and of the size of their image."""

from __future__ import annotations

from typing import Any

import numpy as np

FIRST, BITS = 48, 5  # a character is 48 + 6 bits: 5 of the number, and one that says that more follow


def find_fault(mask: dict[str, Any], image_size: np.ndarray) -> tuple[str, str] | None:
    """Say what is wrong with a mask, as the end of a clause and the numbers, or None.

    Args:
        mask: ``size`` and ``counts``.
        image_size: Height and width of the image; NaN where they are not known.
    """
    size, counts = mask.get('size'), mask.get('counts')
    if not (type(size) is list and len(size) == 2 and all(type(side) is int and side > 0 for side in size)):
        return 'without a "size" of height and width', ''
    if not np.isnan(image_size).any() and tuple(size) != tuple(image_size):
        return (
            'of another size than the image',
            f'{size[0]} x {size[1]} (height x width), the image {int(image_size[0])} x {int(image_size[1])}',
        )
    if isinstance(counts, str):
        runs = decode_runs(counts)
        if runs is None:
            return 'that cannot be decoded', ''
    elif isinstance(counts, list) and all(type(run) is int for run in counts):
        runs = np.array(counts, object)
    else:
        return 'without "counts"', ''
    if (runs < 0).any():
        return 'below 0', ''
    if runs.sum() != size[0] * size[1]:
        return 'that do not fill the image', f'{runs.sum()} pixels of {size[0] * size[1]}'
    return None


def decode_runs(text: str) -> np.ndarray | None:
    """Decode COCO's compressed run lengths; None where they are damaged.

    pycocotools reads beyond the end of damaged ones, and says nothing of those that end early.
    """
    try:
        codes = np.frombuffer(text.encode('ascii'), np.uint8).astype(np.int64) - FIRST
    except UnicodeEncodeError:
        return None
    if not len(codes) or codes.min() < 0 or codes.max() >= 64 or codes[-1] & 32:
        return None
    (ends,) = np.nonzero((codes & 32) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 12:
        return None
    shifts = BITS * (np.arange(len(codes)) - np.repeat(starts, lengths))
    values = np.add.reduceat((codes & 31) << shifts, starts)
    values = np.where(codes[ends] & 16, values - (np.int64(1) << (BITS * lengths)), values)  # the sign
    for first in (1, 2):  # from the fourth on, each is the difference to the one before the last
        values[first::2] = np.cumsum(values[first::2])
    return values
