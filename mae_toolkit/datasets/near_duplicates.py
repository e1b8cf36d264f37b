"""Search for images that look the same, such as frames of one video or copies in another size."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

BANDS = 8  # parts of a hash; two hashes that differ in fewer bits than there are parts share one of them
MOST_BITS = BANDS - 1  # of 128 in which the hashes of two near-duplicates may differ
MOST_DIFFERENCE = 8.0  # of 255: mean difference of their thumbnails
MOST_PAIRS = 200_000  # that are compared per part; beyond it, images of one part are compared with their neighbors only
SIDE = 16  # pixels of a thumbnail


def make_thumbnail(gray: np.ndarray) -> np.ndarray:
    """Shrink a gray image (H, W) to (16, 16) uint8, stretched to the range 0 to 255."""
    small = cv2.resize(gray.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    low, high = float(small.min()), float(small.max())
    return ((small - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)


def hash_image(gray: np.ndarray) -> np.ndarray:
    """Compute the difference hash of a gray image (H, W): whether each of 8 x 8 cells is darker than its neighbors.

    Returns:
        16 bytes: 64 bits about the neighbor to the right, and 64 about that below.
    """
    cells = cv2.resize(gray.astype(np.float32), (9, 9), interpolation=cv2.INTER_AREA)
    right, below = cells[:8, :8] < cells[:8, 1:], cells[:8, :8] < cells[1:, :8]
    return np.packbits(np.concatenate([right.ravel(), below.ravel()]))


def group_near_duplicates(hashes: np.ndarray, thumbnails: np.ndarray) -> list[list[int]]:
    """Find groups of images that look the same.

    Two images do if their hashes differ in less than 8 of 128 bits and their thumbnails by less than 8 of 255 on
    average; the groups are what such pairs connect. Pairs are looked for among hashes that agree in one of eight parts.

    Args:
        hashes: (N, 16) uint8 of :func:`hash_image`.
        thumbnails: (N, 16, 16) uint8 of :func:`make_thumbnail`.

    Returns:
        Groups of two or more positions, each rising.
    """
    parents = np.arange(len(hashes))
    words = hashes.view(np.uint16)  # (N, 8)
    for band in range(BANDS):
        order = np.argsort(words[:, band], kind='stable')
        ends = np.flatnonzero(np.diff(words[order, band], append=-1))
        for bucket in np.split(order, ends[:-1] + 1):
            if len(bucket) > 1:
                _connect(parents, bucket, hashes, thumbnails)
    groups: dict[int, list[int]] = {}
    for position in range(len(parents)):
        groups.setdefault(_find_root(parents, position), []).append(position)
    return [group for group in groups.values() if len(group) > 1]


def _connect(parents: np.ndarray, bucket: np.ndarray, hashes: np.ndarray, thumbnails: np.ndarray) -> None:
    """Connect the near-duplicates among images that share a part of their hash."""
    if len(bucket) * (len(bucket) - 1) // 2 <= MOST_PAIRS:
        first, second = np.triu_indices(len(bucket), 1)
    else:
        bucket = bucket[np.lexsort(hashes[bucket].T)]
        first, second = np.arange(len(bucket) - 1), np.arange(1, len(bucket))
    first, second = bucket[first], bucket[second]
    bits = np.unpackbits(hashes[first] ^ hashes[second], axis=1).sum(axis=1)
    first, second = first[bits <= MOST_BITS], second[bits <= MOST_BITS]
    difference = np.abs(thumbnails[first].astype(np.int16) - thumbnails[second]).mean(axis=(1, 2))
    for a, b in zip(first[difference < MOST_DIFFERENCE], second[difference < MOST_DIFFERENCE], strict=True):
        low, high = sorted((_find_root(parents, a), _find_root(parents, b)))
        parents[high] = low


def _find_root(parents: np.ndarray, position: int) -> int:
    """Follow the parents of a position to the first of its group, and shorten the path."""
    path: Sequence[int] = []
    while parents[position] != position:
        path = [*path, position]
        position = int(parents[position])
    for passed in path:
        parents[passed] = position
    return position
