"""The most similar vectors, and the patches by which two images are similar."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize


def find_neighbors(gallery: np.ndarray, count: int, queries: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Find the vectors with the highest cosine to each of some vectors, by scikit-learn.

    Args:
        gallery: (N, C), the vectors among which is searched.
        count: How many are wanted.
        queries: (Q, C); if None, each vector of the gallery is one, and does not find itself.

    Returns:
        Rows of the gallery (Q, K), the most similar first and of equal ones the first, and their cosines (Q, K); K is
        ``count``, or what there is.
    """
    from sklearn.neighbors import NearestNeighbors

    most = min(count, len(gallery) - (queries is None))
    if most < 1:
        rows = len(gallery if queries is None else queries)
        return np.zeros((rows, 0), int), np.zeros((rows, 0), np.float32)
    search = NearestNeighbors(n_neighbors=most, metric='cosine', algorithm='brute').fit(gallery)
    distances, rows = search.kneighbors(queries)
    order = np.lexsort((rows, distances), axis=1)
    cosines = 1 - np.take_along_axis(distances, order, axis=1)
    return np.take_along_axis(rows, order, axis=1), cosines.astype(np.float32).clip(-1, 1)


def compare_patches(first: Tensor, second: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Find for each patch of two images how similar the most similar patch of the other image is.

    Args:
        first: Map (C, h, w) of an image.
        second: Map (C, i, j) of the same level, of another image.

    Returns:
        Cosines (h, w) and (i, j), each to the best patch of the other image.
    """
    rows, others = (normalize(x.float().flatten(1), dim=0) for x in (first, second))  # (C, h * w)
    cosines = rows.T @ others
    best = cosines.amax(1).reshape(first.shape[1:]), cosines.amax(0).reshape(second.shape[1:])
    return best[0].cpu().numpy(), best[1].cpu().numpy()


def center(vectors: np.ndarray) -> np.ndarray:
    """Subtract the mean of all vectors (N, C), which hides how they differ, and scale each to length 1."""
    centered = torch.from_numpy(vectors - vectors.mean(0, keepdims=True, dtype=np.float64).astype(np.float32))
    return normalize(centered, dim=1).numpy()
