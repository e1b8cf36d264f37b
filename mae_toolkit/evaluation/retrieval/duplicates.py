"""Images that are there twice: the same ones in another size or encoding, and those that show a part of each other.

Vectors and hashes only propose pairs: what is reported was seen in the pixels. No threshold of the cosine decides, as
none fits all encoders: each image is compared with those that are nearest to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mae_toolkit.datasets.fingerprint import find_constant, measure_images
from mae_toolkit.datasets.image_io import BrokenImageError
from mae_toolkit.datasets.image_limits import DEFAULT_LIMITS, ImageLimits
from mae_toolkit.datasets.image_measures import ImageMeasures
from mae_toolkit.datasets.near_duplicates import group_near_duplicates
from mae_toolkit.evaluation.retrieval.alignment import Alignment, Look, align, look_at
from mae_toolkit.evaluation.retrieval.neighbors import center, find_neighbors

NEIGHBORS = 20  # images with the most similar vectors, with which each is compared
KEPT = 4096  # images that are kept in memory for comparisons, about 0.1 MB each
SURE = 50  # points of both images: if none agree, a hash that does is wrong

Pair = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Duplicate:
    """A pair of images that show the same.

    Attributes:
        first: Row of the image.
        second: Row of the other image, which is the later one.
        kind: ``'same'`` if both show the same as a whole, ``'overlap'`` if one shows a part of the other, or both share
            a part.
        cosine: Of their vectors.
        alignment: How the second lies in the first; None if the images have too few points to be aligned.
    """

    first: int
    second: int
    kind: str
    cosine: float
    alignment: Alignment | None


def search_duplicates(
    paths: Sequence[Path],
    vectors: np.ndarray,
    split: int | None = None,
    neighbors: int = NEIGHBORS,
    limits: ImageLimits = DEFAULT_LIMITS,
) -> list[Duplicate]:
    """Find the pairs of images that show the same, within one set or between two.

    Args:
        paths: The images.
        vectors: (N, C), their vectors.
        split: Number of the images, from the first, that are the first set: pairs are of one image of each set. All
            pairs if None.
        neighbors: Images with the most similar vectors, with which each is compared.
        limits: Largest image that is decoded.

    Returns:
        The pairs, by their rows.
    """
    same = set(_find_same_looks(paths, split, limits))
    near = set(_find_near_vectors(vectors, split, neighbors))

    @lru_cache(KEPT)
    def look(row: int) -> Look:
        return look_at(paths[row], limits)

    normal = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
    found = []
    for pair in tqdm(sorted(same | near), 'comparing pairs', unit='pair', delay=1):
        first, second = map(look, pair)
        alignment = align(first, second)
        if alignment is None and (pair not in same or min(len(first.points), len(second.points)) >= SURE):
            continue
        kind = 'same' if alignment is None or alignment.is_whole else 'overlap'
        found.append(Duplicate(pair[0], pair[1], kind, float(normal[pair[0]] @ normal[pair[1]]), alignment))
    return found


def group_pairs(pairs: Sequence[Pair]) -> list[int]:
    """Number the groups that pairs connect, from 1 in the order of the pairs: a number for each pair."""
    parents: dict[int, int] = {}

    def find_root(row: int) -> int:
        while parents.setdefault(row, row) != row:
            parents[row] = parents[parents[row]]
            row = parents[row]
        return row

    for first, second in pairs:
        parents[find_root(second)] = find_root(first)
    numbers: dict[int, int] = {}
    return [numbers.setdefault(find_root(first), len(numbers) + 1) for first, _ in pairs]


def _find_near_vectors(vectors: np.ndarray, split: int | None, neighbors: int) -> Iterator[Pair]:
    """Propose the pairs of which one image is among the nearest of the other, without what all vectors share."""
    centered = center(vectors)
    if split is None:
        rows, _ = find_neighbors(centered, neighbors)
        for query, others in enumerate(rows.tolist()):
            yield from ((min(query, other), max(query, other)) for other in others)
        return
    first, second = centered[:split], centered[split:]
    rows, _ = find_neighbors(first, neighbors, second)
    yield from ((other, split + query) for query, others in enumerate(rows.tolist()) for other in others)
    rows, _ = find_neighbors(second, neighbors, first)
    yield from ((query, split + other) for query, others in enumerate(rows.tolist()) for other in others)


def _find_same_looks(paths: Sequence[Path], split: int | None, limits: ImageLimits) -> Iterator[Pair]:
    """Propose pairs of like hashes and thumbnails: each image with the earlier one, or that of the other set, like it.

    Images of one color all look the same, and are left out.
    """
    bar = tqdm(measure_images(paths, limits, None), 'looking at images', len(paths), unit='image', delay=1)
    measured = [found for found in enumerate(bar) if not isinstance(found[1], BrokenImageError)]
    measures = {row: found for row, found in measured if isinstance(found, ImageMeasures)}
    constant = find_constant(list(measures.values()))
    rows = [row for row, is_constant in zip(measures, constant, strict=True) if not is_constant]
    if len(rows) < 2:
        return
    hashes, thumbnails = (np.stack([getattr(measures[row], key) for row in rows]) for key in ('hash', 'thumbnail'))
    for group in group_near_duplicates(hashes, thumbnails):
        for second in group:
            earlier = [first for first in group if _may_pair(rows[first], rows[second], split)]
            if earlier:
                differences = np.abs(thumbnails[earlier].astype(int) - thumbnails[second]).mean((1, 2))
                yield rows[earlier[int(differences.argmin())]], rows[second]


def _may_pair(first: int, second: int, split: int | None) -> bool:
    return first < second and (split is None or first < split <= second)
