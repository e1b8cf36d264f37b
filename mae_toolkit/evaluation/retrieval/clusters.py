"""Groups of images with similar vectors: k-means on vectors of length 1."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from mae_toolkit.errors import UserError
from mae_toolkit.printing import format_count

MOST_CLUSTERS = 20  # that are tried
MOST_TRIED = 10_000  # images of which numbers of clusters are tried, and silhouettes are computed
STARTS = 10  # of k-means, of which the best counts; of the trials, a third


@dataclass(frozen=True, eq=False)
class Clusters:
    """Groups of images.

    Attributes:
        labels: (N,), the cluster of each image, from 0 for the largest.
        cosines: (N,), of each vector to the center of its cluster.
        silhouette: Mean silhouette, from -1 to 1: how much nearer images are to their own cluster than to the next one.
        tried: Mean silhouette by number of clusters, where it was chosen.
    """

    labels: np.ndarray
    cosines: np.ndarray
    silhouette: float
    tried: dict[int, float] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Return the number of clusters."""
        return int(self.labels.max()) + 1

    def members(self, cluster: int) -> np.ndarray:
        """Return the rows of a cluster, those nearest to its center first."""
        rows = np.flatnonzero(self.labels == cluster)
        return rows[np.argsort(-self.cosines[rows], kind='stable')]


def cluster_vectors(vectors: np.ndarray, clusters: int | None = None, seed: int = 0) -> Clusters:
    """Group vectors by scikit-learn's k-means, after each was scaled to length 1.

    Args:
        vectors: (N, C).
        clusters: How many; if None, the number from 2 to 20 with the highest mean silhouette.
        seed: Seed of the starts, and of the images that are tried.

    Raises:
        UserError: If there are fewer different vectors than clusters.
    """
    normal = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
    different = len(np.unique(normal.round(6), axis=0))
    least = 3 if clusters is None else clusters
    if different < least:
        raise UserError(
            f'{format_count(len(vectors), "image")} with {format_count(different, "different vector")} cannot make '
            f'{"clusters" if clusters is None else format_count(clusters, "cluster")}: '
            + ('at least 3 are needed.' if clusters is None else 'ask for fewer clusters, or give more images.')
        )
    sample = normal
    if len(normal) > MOST_TRIED:
        sample = normal[np.sort(np.random.default_rng(seed).choice(len(normal), MOST_TRIED, replace=False))]
    tried = {} if clusters is not None else _try_numbers(sample, min(MOST_CLUSTERS, different - 1), seed)
    chosen = clusters if clusters is not None else max(tried, key=lambda count: (tried[count], -count))
    labels, centers = _fit(normal, chosen, seed, STARTS)
    order = np.argsort(-np.bincount(labels, minlength=chosen), kind='stable')
    labels, centers = np.argsort(order)[labels], centers[order]
    lengths = np.linalg.norm(centers, axis=1, keepdims=True).clip(1e-12)
    cosines = (normal * (centers / lengths)[labels]).sum(1)
    return Clusters(labels, cosines, _measure_silhouette(normal, labels, seed), tried)


def _try_numbers(normal: np.ndarray, most: int, seed: int) -> dict[int, float]:
    """Compute the mean silhouette for each number of clusters."""
    numbers = tqdm(range(2, most + 1), 'trying numbers of clusters', delay=1)
    return {count: _measure_silhouette(normal, _fit(normal, count, seed, STARTS // 3)[0], seed) for count in numbers}


def _fit(normal: np.ndarray, clusters: int, seed: int, starts: int) -> tuple[np.ndarray, np.ndarray]:
    """Return labels (N,) and centers (K, C)."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter('ignore', ConvergenceWarning)  # some images are there twice
        fitted = KMeans(clusters, n_init=starts, random_state=seed).fit(normal)
    return fitted.labels_, fitted.cluster_centers_


def _measure_silhouette(normal: np.ndarray, labels: np.ndarray, seed: int) -> float:
    """Compute the mean silhouette, which is 0 for a single cluster and where each image is one."""
    from sklearn.metrics import silhouette_score

    if not 1 < len(np.unique(labels)) < len(labels):
        return 0.0
    size = MOST_TRIED if len(labels) > MOST_TRIED else None
    return float(silhouette_score(normal, labels, sample_size=size, random_state=seed))
