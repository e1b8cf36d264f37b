"""Whether the nearest images are of the same class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.probes.data import Part, ProbeData, ProbeResult, Scores
from mae_toolkit.evaluation.probes.neighbors import CHUNK, find_nearest

RECALLS = (1, 5, 10)


def compute_retrieval(queries: Part, references: Part | None = None, recalls: Sequence[int] = RECALLS) -> Scores:
    """Compare the order of references by cosine similarity with their classes, for each query.

    An image of which there is no other of its class is no query, as in pytorch-metric-learning.

    Args:
        queries: Vectors and labels of the images that look for others.
        references: Images among which they look; each other, without themselves, if None.
        recalls: Values of k.

    Returns:
        Means over the queries: ``map``, the average precision over all references (scikit-learn's
        ``average_precision_score``); ``map_at_r`` and ``r_precision``, over as many of the nearest as there are right
        ones (pytorch-metric-learning's ``AccuracyCalculator``, Musgrave et al., arXiv:2003.08505); ``recall_at_k``, the
        share of queries with a right one among the nearest k.

    Raises:
        UserError: If no query has another image of its class.
    """
    others = queries if references is None else references
    sums: dict[str, float] = {}
    total = 0
    for begin in range(0, len(queries), CHUNK):
        rows = torch.arange(begin, min(begin + CHUNK, len(queries)))
        part = queries.select(rows)
        _, order = find_nearest(part.features, others.features, len(others))
        if references is None:
            order = order[order != rows[:, None]].view(len(rows), -1)  # itself is not found
        relevant = others.labels[order] == part.labels[:, None]  # (M, N)
        relevant = relevant[relevant.any(1)]
        total += len(relevant)
        for name, values in _score(relevant.double(), recalls).items():
            sums[name] = sums.get(name, 0.0) + float(values.sum())
    if not total:
        raise UserError(
            f'None of {len(queries)} images has another of its class to be found among {len(others)}: retrieval needs '
            'two images of a class.'
        )
    return {name: value / total for name, value in sums.items()}


def _score(relevant: Tensor, recalls: Sequence[int]) -> dict[str, Tensor]:
    """Score orders (M, N) of 1, where the class is right, and 0: values (M,)."""
    ranks = torch.arange(1, relevant.shape[1] + 1)
    precision = relevant.cumsum(1) / ranks * relevant  # at each right one
    counts = relevant.sum(1)
    within = ranks <= counts[:, None]
    return {
        'map': precision.sum(1) / counts,
        'map_at_r': (precision * within).sum(1) / counts,
        'r_precision': (relevant * within).sum(1) / counts,
        **{f'recall_at_{k}': relevant[:, :k].amax(1) for k in recalls},
    }


def run_retrieval(data: ProbeData) -> ProbeResult:
    """Let the images of validation and of the test look for training images."""
    return ProbeResult(compute_retrieval(data.val, data.train), compute_retrieval(data.test, data.train))
