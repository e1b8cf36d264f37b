"""Weighted nearest neighbors of vectors."""

from __future__ import annotations

from collections.abc import Sequence

from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.knn import vote
from mae_toolkit.evaluation.probes.data import Part, ProbeData, ProbeResult, Scores, compute_accuracy
from mae_toolkit.evaluation.probes.neighbors import find_nearest

NEIGHBORS = (1, 5, 10, 20, 50, 100, 200)
TEMPERATURES = (0.07, 0.1, 0.2)


def run_knn(
    data: ProbeData, neighbors: Sequence[int] | None = None, temperatures: Sequence[float] = TEMPERATURES
) -> ProbeResult:
    """Classify by nearest neighbors; k and temperature are chosen on the held-out part of the training images.

    Args:
        data: Vectors.
        neighbors: Values of k; those of :data:`NEIGHBORS` that the training images allow if None.
        temperatures: Temperatures.

    Raises:
        UserError: If there are fewer images than neighbors.
    """
    fit, choose = data.fit, data.choose
    if neighbors is None:
        neighbors = [k for k in NEIGHBORS if k <= len(fit)]
    most = max(neighbors)
    if most > len(fit):
        raise UserError(
            f'{most} neighbors are asked for, and {len(fit)} training images are there when their number is chosen '
            f'({len(choose)} are held out for that): ask for {len(fit)} or fewer.'
        )
    cosines, rows = find_nearest(choose.features, fit.features, most)
    labels = fit.labels[rows]
    tried = {
        (k, t): compute_accuracy(vote(cosines, labels, data.classes, k, t), choose.labels)
        for k in neighbors
        for t in temperatures
    }
    k, temperature = max(tried, key=lambda pair: tried[pair])  # the first of equal ones

    def score(part: Part) -> Scores:
        cosines, rows = find_nearest(part.features, data.train.features, k)
        predicted = vote(cosines, data.train.labels[rows], data.classes, k, temperature)
        return {'accuracy': compute_accuracy(predicted, part.labels)}

    settings = {'k': k, 'temperature': temperature, 'held-out accuracy': tried[k, temperature]}
    return ProbeResult(score(data.val), score(data.test), settings)
