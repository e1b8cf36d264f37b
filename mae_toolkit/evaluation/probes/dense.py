"""Dense probes: segmentation by nearest neighbors and by logistic regression of patches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.knn import vote
from mae_toolkit.evaluation.probes.data import Part, ProbeData, ProbeResult, Scores, check_classes
from mae_toolkit.evaluation.probes.logistic import STRENGTHS, fit_logistic
from mae_toolkit.evaluation.probes.neighbors import find_nearest
from mae_toolkit.evaluation.probes.segmentation import count_pairs, draw_patches, enlarge, score_pairs
from mae_toolkit.evaluation.probes.training import Standardize

PATCHES = 10_000  # most patches that a probe learns from
NEIGHBORS = (1, 3, 10, 30)
IMAGES = 16  # whose patches are classified at once

# From the vectors of patches (M, C) to their classes (M,), one for each setting that is tried.
Predict = Callable[[Tensor], Sequence[Tensor]]


def _list_batches(part: Part) -> Iterator[tuple[Tensor, Tensor]]:
    """List maps and masks of a few images at a time."""
    yield from zip(part.features.split(IMAGES), part.labels.split(IMAGES), strict=True)


def _count(part: Part, predict: Predict, classes: int) -> list[Tensor]:
    """Count pixels by their true and predicted class, for each setting."""
    counts: list[Tensor] = []
    for maps, masks in _list_batches(part):
        tokens = maps.float().movedim(1, -1)  # (B, h, w, C)
        for number, found in enumerate(predict(tokens.flatten(0, 2))):
            pairs = count_pairs(enlarge(found.view(tokens.shape[:3]), *masks.shape[1:]), masks, classes)
            if number == len(counts):
                counts.append(torch.zeros_like(pairs))
            counts[number] += pairs
    return counts


def run_dense_knn(data: ProbeData, neighbors: Sequence[int] | None = None, patches: int = PATCHES) -> ProbeResult:
    """Segment by the majority of the most similar training patches, as CAPI's evaluation does (arXiv:2502.08769).

    Channels are standardized. A patch has the class of most of its pixels; the number of neighbors is chosen on the
    held-out part of the training images, and what is scored are pixels.

    Args:
        data: Maps and masks.
        neighbors: Numbers of neighbors; those of :data:`NEIGHBORS` that the patches allow if None.
        patches: Most patches among which neighbors are looked for.

    Raises:
        UserError: If there are fewer patches than neighbors.
    """
    bank = draw_patches(data.fit, data.classes, patches, data.seed)
    chosen = [k for k in NEIGHBORS if k <= len(bank)] if neighbors is None else list(neighbors)
    if not chosen or max(chosen) > len(bank):
        most = max(chosen, default=1)
        raise UserError(f'{most} neighbors are asked for among {len(bank)} patches whose pixels count: ask for fewer.')
    counts = _count(data.choose, _make_search(bank, data.classes, chosen), data.classes)
    tried = {k: score_pairs(pairs)['miou'] for k, pairs in zip(chosen, counts, strict=True)}
    best = max(tried, key=lambda k: tried[k])
    bank = draw_patches(data.train, data.classes, patches, data.seed)
    predict = _make_search(bank, data.classes, [best])
    return _score(data, predict, {'k': best, 'patches': len(bank), 'held-out mIoU': tried[best]})


def segment_by_neighbors(
    train: Part, test: Part, classes: int, k: int, patches: int = PATCHES, seed: int = 0, device: Any = 'cpu'
) -> Scores:
    """Segment as :func:`run_dense_knn` does, with a fixed number of neighbors.

    Args:
        train: Maps and masks from which patches are drawn.
        test: Maps and masks that are scored.
        classes: Number of classes.
        k: Number of neighbors; all, if there are fewer patches.
        patches: Most patches among which neighbors are looked for.
        seed: Seed of their choice.
        device: Where neighbors are looked for.

    Returns:
        ``miou`` and ``pixel_accuracy``.

    Raises:
        UserError: If no pixel of the training masks counts.
    """
    bank = draw_patches(train, classes, patches, seed)
    if not len(bank):
        raise UserError(f'No patch of {len(train)} masks has a class: most of their pixels do not count.')
    bank = Part(bank.features.to(device), bank.labels.to(device))
    return score_pairs(_count(test, _make_search(bank, classes, [min(k, len(bank))]), classes)[0])


def _make_search(bank: Part, classes: int, counts: Sequence[int]) -> Predict:
    """Return what classifies patches by the majority of their neighbors in a bank, for each number of neighbors."""
    scale = Standardize(bank.features)
    references = scale(bank.features)

    def search(tokens: Tensor) -> list[Tensor]:
        cosines, rows = find_nearest(scale(tokens.to(references.device)), references, max(counts))
        return [vote(cosines, bank.labels[rows], classes, k, float('inf')).cpu() for k in counts]

    return search


def run_dense_logistic(data: ProbeData, strengths: Sequence[float] = STRENGTHS, patches: int = PATCHES) -> ProbeResult:
    """Segment by logistic regression of standardized patches; C is chosen as k is in :func:`run_dense_knn`.

    Args:
        data: Maps and masks.
        strengths: Values of C.
        patches: Most patches to which it is fitted.

    Raises:
        UserError: If the patches are of one class only.
    """

    def fit(part: Part, values: Sequence[float]) -> tuple[Predict, bool]:
        bank = draw_patches(part, data.classes, patches, data.seed)
        check_classes(bank.labels, 'Segmentation by patches')
        models = [fit_logistic(bank, value) for value in values]

        def predict(tokens: Tensor) -> list[Tensor]:
            return [torch.from_numpy(model.predict(tokens.double().numpy())) for model, _ in models]

        return predict, all(converged for _, converged in models)

    counts = _count(data.choose, fit(data.fit, strengths)[0], data.classes)
    tried = {value: score_pairs(pairs)['miou'] for value, pairs in zip(strengths, counts, strict=True)}
    best = max(tried, key=lambda value: tried[value])
    predict, converged = fit(data.train, [best])
    settings = {'C': best, 'patches': patches, 'held-out mIoU': tried[best]}
    return _score(data, predict, settings if converged else settings | {'converged': False})


def _score(data: ProbeData, predict: Predict, settings: dict[str, float]) -> ProbeResult:
    """Score the images of validation and test."""
    val, test = (score_pairs(_count(part, predict, data.classes)[0]) for part in (data.val, data.test))
    return ProbeResult(val, test, settings)
