"""Where a model reconstructs images worse than a reference: findings, numbers and the least familiar images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.reconstruction_bias.compare import (
    HARD,
    UNKNOWN,
    UNTESTED,
    BinComparison,
    compare_all,
    compare_families,
    correlate_with_frequency,
    make_draws,
)
from mae_toolkit.evaluation.reconstruction_bias.families import sort_into_combinations, sort_into_families
from mae_toolkit.evaluation.reconstruction_bias.measured_set import MeasuredSet
from mae_toolkit.evaluation.reconstruction_bias.ratios import Estimate
from mae_toolkit.evaluation.reconstruction_bias.sentences import describe_bins, describe_correlation, describe_whole
from mae_toolkit.printing import format_count

LEAST = 8  # images of a set: fewer tell nothing about their spread


@dataclass(frozen=True)
class RankedImage:
    """An image of the set, and how familiar it is to the model.

    Attributes:
        number: Its number in the set.
        name: What it is called.
        relative_error: Mean squared error of the model over that of the interpolation.
        error: Mean squared error of the model, in squared deviations of the training.
        percentile: Per cent of the reference's images that have a lower relative error.
    """

    number: int
    name: str
    relative_error: float
    error: float
    percentile: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            'name': self.name,
            'relative_error': self.relative_error,
            'error': self.error,
            'percentile': self.percentile,
        }


@dataclass(frozen=True)
class BiasReport:
    """What :func:`report_bias` has found.

    Attributes:
        bins: All comparisons, by family.
        overall: The ratio of all errors, relative to the interpolation; None if it is not known.
        correlation: See :func:`~mae_toolkit.evaluation.reconstruction_bias.compare.correlate_with_frequency`.
        images: All images of the set, the least familiar one first.
        sizes: Number of images of ``user``, ``reference`` and ``training``.
    """

    bins: list[BinComparison]
    overall: Estimate | None
    correlation: dict[str, Any] | None
    images: list[RankedImage]
    sizes: dict[str, int]

    @property
    def unknown(self) -> list[BinComparison]:
        """Return the patterns that the model does not know, the surest first."""
        return sorted((one for one in self.bins if one.verdict == UNKNOWN), key=lambda one: -one.least)

    @property
    def hard(self) -> list[BinComparison]:
        """Return the patterns that have a greater error, but for the interpolation, too; the hardest first."""
        found = [one for one in self.bins if one.verdict == HARD and one.error_ratio is not None]
        return sorted(found, key=lambda one: -one.error_ratio.corrected[0] if one.error_ratio else 0.0)

    @property
    def findings(self) -> list[str]:
        """Return what was found, in plain sentences, the most important one first."""
        tests = sum(one.verdict != UNTESTED for one in self.bins)
        above = float(np.mean([image.percentile > 95 for image in self.images]))
        found = describe_bins(self.unknown, self.hard, tests)
        found += describe_whole(self.overall, above, self.sizes)
        return found + describe_correlation(self.correlation)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            'findings': self.findings,
            'unknown': [f'{one.family}: {one.bin}' for one in self.unknown],
            'hard_for_anyone': [f'{one.family}: {one.bin}' for one in self.hard],
            'overall': None if self.overall is None else self.overall.to_dict(),
            'rank_correlation': self.correlation,
            'number_of_images': self.sizes,
            'bins': [one.to_dict() for one in self.bins],
            'images': [one.to_dict() for one in self.images],
        }


def report_bias(
    user: MeasuredSet, reference: MeasuredSet, unit: int, training: MeasuredSet | None = None, seed: int = 0
) -> BiasReport:
    """Compare the errors of a set with those of a reference, by many patterns.

    Args:
        user: The images in question.
        reference: Images like those of the training, best of all some that the model was not trained on.
        unit: Pixels per side of a cell.
        training: Images of the training, which say how common a pattern is there; the reference if None.
        seed: Seed of the draws of images, from which the intervals follow.

    Raises:
        UserError: If a set has too few images, or the sets have cells of other sizes.
    """
    training = training or reference
    for name, one in {'your images': user, 'the reference': reference, 'the training images': training}.items():
        check_enough(len(one), name)
    families = sort_into_families(user, reference, training, unit)
    draws = make_draws(len(user), len(reference), seed)
    bins = compare_families(families, draws)
    tests = sum(one.verdict != UNTESTED for one in bins) + 1
    positions = next(family for family in families if family.name == 'position')
    return BiasReport(
        bins=bins,
        overall=compare_all(positions, draws, tests),
        correlation=correlate_with_frequency(sort_into_combinations(user, reference, training), draws),
        images=_rank_images(user, reference),
        sizes={'user': len(user), 'reference': len(reference), 'training': len(training)},
    )


def check_enough(images: int, name: str) -> None:
    """Refuse a set with too few images.

    Raises:
        UserError: With their number, and how many it takes.
    """
    if images < LEAST:
        raise UserError(
            f'{name[0].upper()}{name[1:]}: {format_count(images, "image")}, and an interval over images takes {LEAST} '
            'or more: name more of them.'
        )


def _rank_images(user: MeasuredSet, reference: MeasuredSet) -> list[RankedImage]:
    """Rank the images of a set by their errors relative to the interpolation."""
    known = np.sort(reference.relative_errors)
    own, errors = user.relative_errors, user.mean_errors
    percentiles = 100 * np.searchsorted(known, own) / len(known)
    ranked = [
        RankedImage(i, user.names[i], float(own[i]), float(errors[i]), float(percentiles[i])) for i in range(len(user))
    ]
    return sorted(ranked, key=lambda one: (-one.relative_error, one.name))
