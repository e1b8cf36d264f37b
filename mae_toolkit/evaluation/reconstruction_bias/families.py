"""Families of patterns: how the errors of images are sorted into bins with names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mae_toolkit.evaluation.reconstruction_bias.measured_set import MeasuredSet
from mae_toolkit.evaluation.reconstruction_bias.patterns import COLORS, PLACES, TEXTURES, name_places
from mae_toolkit.evaluation.reconstruction_bias.spectrum import name_bands

FIFTHS = ('weakest', 'weak', 'medium', 'strong', 'strongest')


@dataclass(frozen=True)
class BinSums:
    """Sums over the hidden cells of each of N images, in each of K bins; each (N, K).

    Attributes:
        model: Of the squared errors of the model.
        baseline: Of those of the interpolation.
        cells: Number of cells.
    """

    model: np.ndarray
    baseline: np.ndarray
    cells: np.ndarray


@dataclass(frozen=True)
class Family:
    """A way to sort cells, or parts of their errors, into bins.

    Attributes:
        name: Such as ``'texture'``.
        bins: Names of the bins.
        user: Sums of the images in question.
        reference: Sums of those with whose errors they are compared.
        training: Cells per bin in the training images (K,), which say how common a bin is.
        is_pattern: Whether each cell lies in one bin, so that a bin can be rare.
    """

    name: str
    bins: tuple[str, ...]
    user: BinSums
    reference: BinSums
    training: np.ndarray
    is_pattern: bool = True


def sort_into_families(user: MeasuredSet, reference: MeasuredSet, training: MeasuredSet, unit: int) -> list[Family]:
    """Sort the errors of three sets into all families that they have.

    Args:
        user: The images in question.
        reference: Images with whose errors they are compared.
        training: Images that say how common a pattern is; they may be those of the reference.
        unit: Pixels per side of a cell.
    """
    sets = (user, reference, training)
    found = []
    if user.spectrum is not None:
        found.append(_by_parts('spatial frequency', name_bands(unit), [one.spectrum for one in sets], sets))
    limits = np.quantile(training.edges, (0.2, 0.4, 0.6, 0.8))
    names = [f'{word} edges' for word in FIFTHS]
    found.append(_by_cells('edge strength', names, [np.searchsorted(limits, one.edges) for one in sets], sets))
    found.append(_by_cells('texture', TEXTURES, [one.texture for one in sets], sets))
    if user.color is not None:
        found.append(_by_cells('color', COLORS, [one.color for one in sets], sets))
    else:
        limits = np.quantile(training.intensity, (0.2, 0.4, 0.6, 0.8))
        names = [f'{word} fifth of intensities' for word in ('lowest', 'second', 'middle', 'fourth', 'highest')]
        found.append(_by_cells('intensity', names, [np.searchsorted(limits, one.intensity) for one in sets], sets))
        if user.channels is not None and user.channels.shape[-1] > 1:
            names = [f'channel {number + 1}' for number in range(user.channels.shape[-1])]
            found.append(_by_parts('channel', names, [one.channels for one in sets], sets))
    places = name_places(*user.grid).numpy()
    found.append(_by_cells('position', PLACES, [np.broadcast_to(places, one.edges.shape) for one in sets], sets))
    if user.classes is not None and training.classes is not None:  # or else their shares there are unknown
        names = sorted({*user.classes, *(reference.classes or ()), *training.classes})
        found.append(_by_cells('class', names, [_number_classes(one, names) for one in sets], sets))
    return found


def sort_into_combinations(user: MeasuredSet, reference: MeasuredSet, training: MeasuredSet) -> Family:
    """Sort the cells of three sets by texture and color (or intensity) together, for patterns of many frequencies."""
    sets = (user, reference, training)
    if user.color is not None:
        other: list[Any] = [one.color for one in sets]
        seconds: tuple[str, ...] = COLORS
    else:
        limits = np.quantile(training.intensity, (0.2, 0.4, 0.6, 0.8))
        other = [np.searchsorted(limits, one.intensity) for one in sets]
        seconds = tuple(f'fifth {number} of intensities' for number in range(1, 6))
    names = [f'{texture}, {second}' for texture in TEXTURES for second in seconds]
    both = [one.texture * len(seconds) + second for one, second in zip(sets, other, strict=True)]
    return _by_cells('texture and color', names, both, sets)


def _number_classes(one: MeasuredSet, names: list[str]) -> np.ndarray:
    """Return the number of the class of each cell (N, L); -1 where there are no labels."""
    numbers = [-1] * len(one) if one.classes is None else [names.index(name) for name in one.classes]
    return np.broadcast_to(np.array(numbers)[:, None], one.edges.shape)


def _by_cells(name: str, bins: Sequence[str], numbers: Sequence[Any], sets: Sequence[MeasuredSet]) -> Family:
    """Sort whole cells by the numbers (N, L) of their bins."""
    user, reference, training = (
        BinSums(*(_sum_by_bin(values, which, len(bins)) for values in (one.model, one.baseline, one.hidden)))
        for one, which in zip(sets, numbers, strict=True)
    )
    return Family(name, tuple(bins), user, reference, training.cells.sum(0))


def _by_parts(name: str, bins: Sequence[str], parts: Sequence[Any], sets: Sequence[MeasuredSet]) -> Family:
    """Take the sums (2, N, K) of parts of each cell's error."""
    user, reference, training = (
        BinSums(part[0], part[1], np.repeat(one.hidden.sum(1, keepdims=True), len(bins), 1))
        for one, part in zip(sets, parts, strict=True)
    )
    return Family(name, tuple(bins), user, reference, training.cells.sum(0), is_pattern=False)


def _sum_by_bin(values: np.ndarray, numbers: np.ndarray, bins: int) -> np.ndarray:
    """Sum values (N, L) of cells over the bins in which they lie: (N, K); number -1 lies in none."""
    images = len(values)
    place = np.where(numbers < 0, images * bins, np.arange(images)[:, None] * bins + numbers)
    sums = np.bincount(place.ravel(), weights=values.ravel(), minlength=images * bins + 1)
    return sums[:-1].reshape(images, bins)
