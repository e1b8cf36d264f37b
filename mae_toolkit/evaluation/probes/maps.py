"""Vectors and maps of images in one pass of the encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.embeddings import Embeddings, FeatureExtractor, pool_features
from mae_toolkit.evaluation.embeddings.reading import refuse_none_read
from mae_toolkit.models.features import Features

HALF_MAX = torch.finfo(torch.float16).max
SHARE = 0.4  # of the free memory that maps may take: a probe copies those of training while it chooses its settings
GIB = 2**30


@dataclass(frozen=True)
class EncodedImages:
    """Vectors and maps of the images that could be read.

    Attributes:
        embeddings: Names, sizes in the files, and vectors by level and pooling.
        maps: (N, C, h, w) by level, such as ``'level4.patches'``, in half precision if their values allow it.
        size: Height and width of what the encoder saw.
    """

    embeddings: Embeddings
    maps: dict[str, Tensor]
    size: tuple[int, int]


def encode_images(
    extractor: FeatureExtractor,
    images: Sequence[Any],
    names: Sequence[str],
    keep_maps: bool,
    most_positions: int | None = None,
    free: int | None = None,
) -> EncodedImages:
    """Encode images once, and keep their vectors and maps in memory.

    Args:
        extractor: Its levels and poolings are kept.
        images: Files, arrays or pictures, which the transform brings to one size.
        names: What they are called.
        keep_maps: Keep maps beside vectors.
        most_positions: Rows and columns to which larger maps are averaged; all are kept if None.
        free: Bytes of memory that are free; found out if None.

    Raises:
        UserError: If no image can be read, features are not finite, or the maps do not fit into memory.
    """
    indices: list[int] = []
    sizes: list[tuple[int, int]] = []
    vectors: dict[str, list[Tensor]] = {}
    maps: dict[str, list[Tensor]] = {}
    seen = (0, 0)
    for batch in extractor.encode(images, names):
        indices += batch.indices
        sizes += batch.sizes
        seen = (batch.imgs.shape[2], batch.imgs.shape[3])
        for name, rows in pool_features(
            batch.features, extractor.poolings, extractor.levels, extractor.encoder.has_class_token
        ).items():
            vectors.setdefault(name, []).append(rows.cpu())
        if keep_maps:
            found = _list_maps(batch.features, extractor.levels, most_positions)
            if not maps:
                _check_memory(found, len(batch.indices), len(images), free)
            for name, x in found.items():
                maps.setdefault(name, []).append(x)
    if not indices:
        refuse_none_read(len(images), extractor.skipped)
    if not vectors:
        tokens = ' and '.join(extractor.poolings)
        raise UserError(f'The encoder has no tokens for the pooling {tokens}: choose mean, max or gem.')
    features = {name: torch.cat(rows).numpy() for name, rows in vectors.items()}
    chosen = tuple(names[index] for index in indices)
    _check_finite(features, chosen)
    embeddings = Embeddings(chosen, features, np.array(sizes, dtype=int).reshape(-1, 2), dict(extractor.skipped))
    return EncodedImages(embeddings, {name: torch.cat(parts) for name, parts in maps.items()}, seen)


def _list_maps(features: Features, levels: Sequence[int] | None, most: int | None) -> dict[str, Tensor]:
    """List the maps of a batch by level, on the CPU."""
    found = {}
    for level, x in enumerate(features.maps, 1):
        if levels is not None and level not in levels:
            continue
        if most is not None and max(x.shape[2:]) > most:
            x = adaptive_avg_pool2d(x.float(), (min(x.shape[2], most), min(x.shape[3], most)))
        is_small = bool(x.abs().max() <= HALF_MAX)  # others would become infinite
        found[f'level{level}.patches'] = (x.half() if is_small else x.float()).cpu()
    return found


def _check_memory(maps: dict[str, Tensor], batch: int, count: int, free: int | None) -> None:
    """Refuse to keep maps that do not fit, once the first batch says how large they are."""
    free = psutil.virtual_memory().available if free is None else free
    needed = sum(x.numel() * x.element_size() for x in maps.values()) / batch * count
    if needed > SHARE * free:
        largest = max(maps, key=lambda name: maps[name].numel())
        raise UserError(
            f'The maps of {count:,} images take {needed / GIB:.1f} GiB, and {SHARE * free / GIB:.1f} GiB of memory may '
            f'be used (most is for {largest}): name fewer levels with --levels, a smaller --size, or only probes of '
            'vectors with --probes.'
        )


def _check_finite(features: dict[str, np.ndarray], names: Sequence[str]) -> None:
    for name, values in features.items():
        wrong = np.flatnonzero(~np.isfinite(values).all(1))
        if len(wrong):
            raise UserError(
                f'{name} of {len(wrong)} of {len(names)} images is not finite, the first of {names[wrong[0]]}: the '
                'encoder has diverged, or its weights are not those of its architecture.'
            )
