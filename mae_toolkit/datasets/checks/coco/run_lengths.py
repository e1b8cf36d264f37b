"""Check of masks in COCO's run-length encoding (RLE): whether they are complete and of the size of their image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

FIRST_CODE, BITS = 48, 5  # a character is 48 + 6 bits: 5 of the number, and 1 that says that more follow
MAX_CHARACTERS = 12  # of a number
BATCH_SIZE = 256  # masks at a time, whose arrays stay in the processor's cache
CONTINUATION = bytes(ord('+') if code >= FIRST_CODE and (code - FIRST_CODE) & 32 else ord('.') for code in range(256))

EMPTY = 'without a single pixel of the object'
Fault = tuple[str, str]  # the end of a clause such as 'that cannot be decoded', and the numbers


def find_faults(masks: Sequence[dict[str, Any]], image_sizes: np.ndarray) -> list[Fault | None]:
    """Find what is wrong with each mask; None if nothing is.

    Args:
        masks: Dicts of ``size`` and ``counts``.
        image_sizes: Height and width of the masks' images (N, 2); NaN if they are not known.
    """
    faults = [_check_size(mask.get('size'), size) for mask, size in zip(masks, image_sizes.tolist(), strict=True)]
    whole = [i for i, fault in enumerate(faults) if fault is None]
    is_text = [isinstance(masks[i].get('counts'), str) for i in whole]
    texts = [i for i, text in zip(whole, is_text, strict=True) if text]
    runs, numbers, is_valid = decode_runs([masks[i]['counts'] for i in texts])
    starts = np.cumsum(numbers) - numbers
    sums = np.add.reduceat(runs, starts) if len(runs) else runs
    least = np.minimum.reduceat(runs, starts) if len(runs) else runs
    is_object = (np.arange(len(runs)) - np.repeat(starts, numbers)) % 2 == 1
    pixels = np.add.reduceat(runs * is_object, starts) if len(runs) else runs
    decoded = iter(zip(sums.tolist(), least.tolist(), pixels.tolist(), strict=True))
    for i, valid in zip(texts, is_valid, strict=True):
        faults[i] = _check_runs(*next(decoded), masks[i]['size']) if valid else ('that cannot be decoded', '')
    for i, text in zip(whole, is_text, strict=True):
        if not text:
            counts = masks[i].get('counts')
            if isinstance(counts, list) and counts and set(map(type, counts)) == {int}:
                faults[i] = _check_runs(sum(counts), min(counts), sum(counts[1::2]), masks[i]['size'])
            else:
                faults[i] = ('without "counts"', '')
    return faults


def decode_runs(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Decode COCO's compressed run lengths of many masks at once.

    Damaged strings are recognized, where pycocotools would read beyond their end or return incomplete masks.

    Args:
        texts: The ``counts`` of the masks.

    Returns:
        The run lengths of all masks that can be decoded, one mask after the other; the number of run lengths of each of
        these masks; and whether each text can be decoded.
    """
    is_valid = np.array([_is_decodable(text) for text in texts], bool)
    data = [text.encode() for text, valid in zip(texts, is_valid, strict=True) if valid]
    parts = [_decode(data[i : i + BATCH_SIZE]) for i in range(0, len(data), BATCH_SIZE)]
    if not parts:
        return np.zeros(0, np.int64), np.zeros(0, int), is_valid
    return np.concatenate([runs for runs, _ in parts]), np.concatenate([numbers for _, numbers in parts]), is_valid


def _decode(data: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Return the run lengths of masks, one mask after the other, and the number of run lengths of each mask."""
    codes = np.frombuffer(b''.join(data), np.uint8).astype(np.int64) - FIRST_CODE
    (ends,) = np.nonzero((codes & 32) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    shifts = BITS * (np.arange(len(codes)) - np.repeat(starts, lengths))
    values = np.add.reduceat((codes & 31) << shifts, starts)
    values -= np.where(codes[ends] & 16, np.int64(1) << (BITS * lengths), 0)  # the sign
    owners = np.searchsorted(np.cumsum([len(text) for text in data]), ends, side='right')
    numbers = np.bincount(owners, minlength=len(data))
    places = np.arange(len(values)) - np.repeat(np.cumsum(numbers) - numbers, numbers)
    for first in (1, 2):  # from the fourth on, each is the difference to the one before the last
        (selected,) = np.nonzero((places >= first) & (places % 2 == first % 2))
        total = np.cumsum(values[selected])
        (begins,) = np.nonzero(places[selected] == first)
        before = (total - values[selected])[begins]
        values[selected] = total - np.repeat(before, np.diff([*begins, len(selected)]))
    return values, numbers


def _is_decodable(text: str) -> bool:
    """Return whether all characters are those of run lengths, and every number is complete."""
    if not text or not text.isascii():
        return False
    data = text.encode()
    if min(data) < FIRST_CODE or max(data) >= FIRST_CODE + 64 or (data[-1] - FIRST_CODE) & 32:
        return False
    return max(map(len, data.translate(CONTINUATION).split(b'.'))) < MAX_CHARACTERS


def _check_size(size: Any, image_size: list[float]) -> Fault | None:
    if not (type(size) is list and len(size) == 2 and all(type(side) is int and side > 0 for side in size)):
        return 'without a "size" of height and width', ''
    if image_size[0] == image_size[0] and size != image_size:  # NaN is not equal to itself
        numbers = f'{size[0]} x {size[1]} (height x width), the image {image_size[0]:.0f} x {image_size[1]:.0f}'
        return 'of another size than the image', numbers
    return None


def _check_runs(total: int, least: int, pixels: int, size: list[int]) -> Fault | None:
    if least < 0:
        return 'below 0', ''
    if total != size[0] * size[1]:
        return 'that do not fill the image', f'{total} pixels of {size[0] * size[1]}'
    return None if pixels else (EMPTY, '')
