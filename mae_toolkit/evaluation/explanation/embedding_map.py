"""Vectors of images as points of a plane, by t-SNE or UMAP, and how far the plane can be trusted."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.knn import vote
from mae_toolkit.evaluation.retrieval import find_neighbors
from mae_toolkit.printing import format_count, some

METHODS = {'tsne': 't-SNE', 'umap': 'UMAP'}
LEAST_IMAGES = 3
MOST_IMAGES = 20_000  # that are put on a map
MOST_COMPARED = 5_000  # images of which trustworthiness is computed, whose memory grows with the square
PERPLEXITY, NEIGHBORS = 30, 15  # the defaults of scikit-learn and umap-learn
VOTES, TEMPERATURE = 20, 0.07  # as in compute_knn_accuracy


@dataclass(frozen=True, eq=False)
class EmbeddingMap:
    """Points of a plane, one for each vector.

    Attributes:
        points: (N, 2) float32; neither their directions nor their units mean anything.
        method: ``'tsne'`` or ``'umap'``.
        options: What the method was called with, ``seed`` among them.
        trustworthiness: From 0 to 1: how far the neighbors of a point on the map are neighbors among the vectors, too
            (Venna and Kaski 2001). Points thrown at random have about 0.5.
        neighbors: How many neighbors of a point trustworthiness looks at.
    """

    points: np.ndarray
    method: str
    options: dict[str, Any]
    trustworthiness: float
    neighbors: int


def map_vectors(vectors: np.ndarray, method: str = 'tsne', seed: int = 0, neighbors: int | None = None) -> EmbeddingMap:
    """Put vectors on a map, after each was scaled to length 1, so that neighbors are those of the highest cosine.

    t-SNE is scikit-learn's (van der Maaten and Hinton 2008), started from the main components; UMAP is umap-learn's
    (arXiv:1802.03426). Both are the same for the same seed.

    Args:
        vectors: (N, C).
        method: ``'tsne'`` or ``'umap'``.
        seed: Seed.
        neighbors: About how many neighbors of a point count: the perplexity of t-SNE, 30 if None, or ``n_neighbors`` of
            UMAP, 15 if None; less of few images.

    Raises:
        UserError: If there are too few or too many images, they are all the same, ``neighbors`` is out of its range,
            the method is unknown, or umap-learn is not installed.
    """
    if method not in METHODS:
        raise UserError(f'method={method!r} must be one of {", ".join(METHODS)}.')
    count = len(vectors)
    if not LEAST_IMAGES <= count <= MOST_IMAGES:
        raise UserError(
            f'A map is made of {LEAST_IMAGES} to {MOST_IMAGES} images, and there are {count}: '
            f'{"give more" if count < LEAST_IMAGES else "choose some of them"}.'
        )
    most = max(1, (count - 1) // 3) if method == 'tsne' else count - 1
    if neighbors is not None and not 1 <= neighbors <= most:
        raise UserError(f'neighbors={neighbors} must be from 1 to {most} for {count} images.')
    normal = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
    if np.ptp(normal, axis=0).max() < 1e-7:
        raise UserError(f'All {count} vectors are the same: there is nothing to map.')
    chosen = neighbors or min(PERPLEXITY if method == 'tsne' else NEIGHBORS, most)
    points, options = (_run_tsne if method == 'tsne' else _run_umap)(normal, chosen, seed)
    k = max(1, min(10, (count - 1) // 2))
    return EmbeddingMap(points, method, options, _measure_trust(normal, points, k, seed), k)


def measure_label_accuracy(vectors: np.ndarray, labels: Sequence[str], votes: int = VOTES) -> float:
    """Measure the share of vectors whose nearest others have the same label, by a vote as in DINO's k-NN.

    Each vector is classified by all others. What is alone in its class is wrong, as nothing else can vote for it.

    Args:
        vectors: (N, C).
        labels: N labels.
        votes: How many neighbors vote.
    """
    names = {name: number for number, name in enumerate(sorted(set(labels)))}
    classes = torch.tensor([names[name] for name in labels])
    rows, cosines = find_neighbors(vectors, votes)
    predicted = vote(torch.from_numpy(cosines), classes[torch.from_numpy(rows)], len(names), votes, TEMPERATURE)
    return float((predicted == classes).double().mean())


def measure_map_accuracy(points: np.ndarray, labels: Sequence[str], votes: int = VOTES) -> float:
    """Measure the share of points of a map whose nearest others mostly have the same label.

    Args:
        points: (N, 2); distances count, not angles.
        labels: N labels.
        votes: How many neighbors vote, with equal weights.
    """
    from sklearn.neighbors import NearestNeighbors

    names, classes = np.unique(np.asarray(labels), return_inverse=True)
    search = NearestNeighbors(n_neighbors=min(votes, len(points) - 1)).fit(points)
    nearest = classes[search.kneighbors(return_distance=False)]  # (N, K)
    counts = (nearest[:, :, None] == np.arange(len(names))).sum(1)
    return float((counts.argmax(1) == classes).mean())


def spread_points(points: np.ndarray, count: int, distance: float = 0.065) -> list[int]:
    """Choose points that are far from each other: first the one next to the middle, then always the farthest.

    Args:
        points: (N, 2).
        count: How many at most.
        distance: Least distance between two of them, in parts of the larger side of the box of all points.
    """
    span = float(np.ptp(points, axis=0).max())
    chosen = [int(((points - points.mean(0)) ** 2).sum(1).argmin())]
    nearest = ((points - points[chosen[0]]) ** 2).sum(1)  # squared distance to the nearest chosen one
    while len(chosen) < count and nearest.max() >= (distance * span) ** 2 > 0:
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, ((points - points[chosen[-1]]) ** 2).sum(1))
    return chosen


def check_umap() -> None:
    """Refuse UMAP where it is not installed.

    Raises:
        UserError: In this case.
    """
    if find_spec('umap') is None:
        raise UserError("UMAP needs umap-learn: pip install 'mae_toolkit[explain]', or leave it out for t-SNE.")


def _run_tsne(normal: np.ndarray, perplexity: int, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
    from sklearn.manifold import TSNE

    found = TSNE(2, perplexity=perplexity, init='pca', random_state=seed).fit_transform(normal.astype(np.float32))
    return found.astype(np.float32), {'perplexity': perplexity, 'seed': seed}


def _run_umap(normal: np.ndarray, neighbors: int, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
    check_umap()
    import umap

    with warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)  # that a seed takes one thread, as asked for here
        # Its spectral start fails for a handful of points.
        start = 'spectral' if len(normal) > 2 * neighbors else 'random'
        fitted = umap.UMAP(n_neighbors=neighbors, random_state=seed, n_jobs=1, init=start, metric='cosine')
        points = np.asarray(fitted.fit_transform(normal), np.float32)
    return points, {'n_neighbors': neighbors, 'min_dist': fitted.min_dist, 'seed': seed}


def _measure_trust(normal: np.ndarray, points: np.ndarray, neighbors: int, seed: int) -> float:
    from sklearn.manifold import trustworthiness

    if len(normal) > MOST_COMPARED:
        rows = np.random.default_rng(seed).choice(len(normal), MOST_COMPARED, replace=False)
        normal, points = normal[rows], points[rows]
    return float(trustworthiness(normal, points, n_neighbors=neighbors))


def check_labels(labels: Sequence[str], count: int) -> list[str]:
    """Return labels as a list, or refuse them if there is not one for each image.

    Raises:
        UserError: If there are more or fewer labels than images, or only one kind of them.
    """
    labels = [str(label) for label in labels]
    if len(labels) != count:
        raise UserError(
            f'There are {format_count(len(labels), "label")} for {format_count(count, "image")}: give one for each.'
        )
    if len(set(labels)) < 2:
        raise UserError(f'All {count} images have the label {some(sorted(set(labels)))}: two or more are needed.')
    return labels
