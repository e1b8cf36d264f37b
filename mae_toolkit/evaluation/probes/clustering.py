"""Whether clusters of vectors are the classes."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

from mae_toolkit.evaluation.embeddings.pooling import normalize_rows
from mae_toolkit.evaluation.probes.data import Part, ProbeData, ProbeResult, Scores

STARTS = 10


def compute_cluster_accuracy(labels: np.ndarray, clusters: np.ndarray) -> float:
    """Compute the accuracy of clusters if each is called by one class, in the best of all ways (Hungarian matching).

    Args:
        labels: Classes (N,).
        clusters: Clusters (N,).
    """
    counts = contingency_matrix(labels, clusters)
    rows, columns = linear_sum_assignment(counts, maximize=True)
    return float(counts[rows, columns].sum() / len(labels))


def cluster(part: Part, seed: int) -> Scores:
    """Group images by k-means of directions, as many groups as there are classes among them.

    Args:
        part: Vectors and labels, which only measure the groups.
        seed: Seed of the starts.

    Returns:
        ``nmi`` (normalized mutual information), ``ari`` (adjusted Rand index) and ``accuracy``.
    """
    labels = part.labels.numpy()
    vectors = normalize_rows(part.features).numpy()
    clusters = KMeans(len(np.unique(labels)), n_init=STARTS, random_state=seed).fit_predict(vectors)
    return {
        'nmi': float(normalized_mutual_info_score(labels, clusters)),
        'ari': float(adjusted_rand_score(labels, clusters)),
        'accuracy': compute_cluster_accuracy(labels, clusters),
    }


def run_kmeans(data: ProbeData) -> ProbeResult:
    """Group the images of validation and of the test, each by themselves; nothing is learned from labels."""
    return ProbeResult(cluster(data.val, data.seed), cluster(data.test, data.seed))
