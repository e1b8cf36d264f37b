"""The table of probes, and how they are run over all levels and poolings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tqdm import tqdm

from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.probes.attentive import run_attentive
from mae_toolkit.evaluation.probes.clustering import run_kmeans
from mae_toolkit.evaluation.probes.data import Probe, ProbeData, ProbeResult
from mae_toolkit.evaluation.probes.dense import run_dense_knn, run_dense_logistic
from mae_toolkit.evaluation.probes.knn import run_knn
from mae_toolkit.evaluation.probes.linear import run_linear
from mae_toolkit.evaluation.probes.logistic import run_logistic
from mae_toolkit.evaluation.probes.rank import run_rank
from mae_toolkit.evaluation.probes.retrieval import run_retrieval
from mae_toolkit.registry import suggest

RANK = {'rank': 'rank'}
# Probes of images with one class each, from the cheapest to the dearest: of equally good ones the first is chosen.
OF_CLASSES: dict[str, Probe] = {
    'knn': Probe('vectors', run_knn, {'accuracy': 'kNN'}),
    'logistic': Probe('vectors', run_logistic, {'accuracy': 'logistic'}),
    'linear': Probe('vectors', run_linear, {'accuracy': 'linear'}),
    'attentive': Probe('maps', run_attentive, {'accuracy': 'attentive'}),
    'kmeans': Probe('vectors', run_kmeans, {'nmi': 'NMI', 'ari': 'ARI', 'accuracy': 'k-means'}, is_supervised=False),
    'retrieval': Probe(
        'vectors',
        run_retrieval,
        {'map': 'mAP', 'r_precision': 'R-precision', 'recall_at_1': 'recall@1', 'recall_at_5': 'recall@5'},
        is_supervised=False,
    ),
    'rank': Probe('vectors', run_rank, RANK, is_supervised=False),
    'patch-rank': Probe('maps', run_rank, RANK, is_supervised=False),
}
# Probes of images with masks.
OF_MASKS: dict[str, Probe] = {
    'patch-knn': Probe('maps', run_dense_knn, {'miou': 'kNN mIoU', 'pixel_accuracy': 'kNN pixels'}),
    'patch-logistic': Probe('maps', run_dense_logistic, {'miou': 'logistic mIoU', 'pixel_accuracy': 'logistic pixels'}),
    'patch-rank': Probe('maps', run_rank, RANK, is_supervised=False),
}
LABEL_FREE = ('rank', 'patch-rank')
PROBES = tuple({**OF_CLASSES, **OF_MASKS})


@dataclass(frozen=True)
class Row:
    """What one probe found of one level and pooling.

    Attributes:
        features: Level and pooling, such as ``'level4.mean'``; ``'level4.patches'`` for probes of maps.
        probe: Name of the probe.
        result: Its scores and settings.
    """

    features: str
    probe: str
    result: ProbeResult

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {'features': self.features, 'probe': self.probe, **asdict(self.result)}


def choose_probes(names: Sequence[str] | None, known: Mapping[str, Probe], what: str) -> dict[str, Probe]:
    """Return the probes of some names, in the order of the table.

    Args:
        names: Names; all if None.
        known: The table.
        what: What labels there are, for the error.

    Raises:
        UserError: If one is unknown, or is for other labels.
    """
    for name in names or ():
        if name not in PROBES:
            raise UserError(f'There is no probe {name!r}{suggest(name, PROBES)}')
        if name not in known:
            raise UserError(f'The probe {name} does not go with {what}, which {", ".join(known)} go with.')
    return {name: probe for name, probe in known.items() if names is None or name in names}


def run_probes(
    probes: Mapping[str, Probe],
    data: Callable[[str], ProbeData],
    vectors: Iterable[str],
    maps: Iterable[str],
) -> list[Row]:
    """Run probes over all levels and poolings.

    Args:
        probes: Probes by name.
        data: Returns the data of a level and pooling.
        vectors: Names of vectors.
        maps: Names of maps.
    """
    of = {'vectors': list(vectors), 'maps': list(maps)}
    jobs = [(features, name, probe) for name, probe in probes.items() for features in of[probe.takes]]
    rows = []
    with tqdm(total=len(jobs), desc='probes', unit='probe', delay=1) as bar:
        for features, name, probe in jobs:
            bar.set_postfix_str(f'{name} of {features}')
            rows.append(Row(features, name, probe.run(data(features))))
            bar.update()
    return rows


def find_best(rows: Sequence[Row], probes: Mapping[str, Probe]) -> Row | None:
    """Find the row of the best validation score among the probes that learn from labels; None if there are none.

    Of equally good ones the first is chosen, which is the cheapest probe at the finest level.
    """
    candidates = [row for row in rows if probes[row.probe].is_supervised]
    return max(candidates, key=lambda row: row.result.val[probes[row.probe].metric], default=None)


def find_best_of_each(rows: Sequence[Row], probes: Mapping[str, Probe]) -> dict[str, Row]:
    """Find the row of the best validation score of each probe; ranks, which depend on the channels, have no best."""
    found: dict[str, Row] = {}
    for name, probe in probes.items():
        own = [row for row in rows if row.probe == name]
        if own and name not in LABEL_FREE:
            found[name] = max(own, key=lambda row: row.result.val[probe.metric])
    return found


def compute_margin(accuracy: float, count: int) -> float:
    """Compute how far an accuracy over some images may be off by chance: half the 95% interval of Wilson.

    Args:
        accuracy: Share that is right.
        count: Number of images.
    """
    z = 1.96
    return z / (1 + z**2 / count) * math.sqrt(accuracy * (1 - accuracy) / count + z**2 / (4 * count**2))
