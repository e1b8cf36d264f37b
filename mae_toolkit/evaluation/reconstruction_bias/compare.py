"""Compare the errors of a set with those of a reference, pattern by pattern."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mae_toolkit.evaluation.reconstruction_bias.families import BinSums, Family
from mae_toolkit.evaluation.reconstruction_bias.ratios import Estimate, draw_images, estimate_ratio, rank_correlation

DRAWS = 1000
LEAST_IMAGES = 5  # with a pattern, from which on it is compared
LEAST_CELLS = 20  # hidden cells with it likewise
LEAST_PATTERNS = 5  # of which a correlation is computed
RATIOS = ('error_ratio', 'interpolation_ratio', 'relative_ratio', 'excess')
RARE = 0.01  # share of the reference's cells below which a pattern may count as missing from it
FAR_MORE = 3  # times as large a share in the other set, from which on it does

UNKNOWN, HARD, SAME, BETTER, UNTESTED = 'unknown to the model', 'hard for anyone', 'no bias found', 'better', 'too few'


@dataclass(frozen=True)
class BinComparison:
    """The error of a pattern, compared with the reference.

    Attributes:
        family: Such as ``'texture'``.
        bin: Name of the pattern.
        images: Images of the set that have it.
        share: Its share of the hidden cells of the set; 1 for parts of the error, which all cells have.
        training_share: Its share of those of the training images.
        is_missing: Whether the training images hardly have it: then it is compared with all cells of the reference.
        relative_error: Error over that of the interpolation.
        reference_relative_error: The same of that with which it is compared.
        error_ratio: Mean squared error over that of the reference; None if there are too few cells.
        interpolation_ratio: The same ratio of the errors of the interpolation.
        relative_ratio: The same ratio of the errors relative to the interpolation.
        excess: The relative ratio over that of everything else in the family; None if there is nothing else.
        verdict: One of ``UNKNOWN``, ``HARD``, ``SAME``, ``BETTER`` and ``UNTESTED``.
    """

    family: str
    bin: str
    images: int
    share: float
    training_share: float
    is_missing: bool
    relative_error: float
    reference_relative_error: float
    error_ratio: Estimate | None
    interpolation_ratio: Estimate | None
    relative_ratio: Estimate | None
    excess: Estimate | None
    verdict: str

    @property
    def least(self) -> float:
        """Return the ratio that is certain: the lower end of the corrected intervals."""
        if self.relative_ratio is None:
            return 0.0
        ends = [one.corrected[0] for one in (self.relative_ratio, self.excess) if one is not None]
        return min(ends)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        numbers = {name: getattr(self, name) for name in RATIOS}
        return {
            'family': self.family,
            'bin': self.bin,
            'verdict': self.verdict,
            'images': self.images,
            'share': round(self.share, 6),
            'training_share': round(self.training_share, 6),
            'compared_with': 'all cells of the reference' if self.is_missing else 'the same in the reference',
            'relative_error': _finite(self.relative_error),
            'relative_error_of_reference': _finite(self.reference_relative_error),
            **{name: None if one is None else one.to_dict() for name, one in numbers.items()},
        }


@dataclass(frozen=True)
class Draws:
    """The images of both sets, drawn with replacement: (draws + 1, N) each, the first row each image once."""

    user: np.ndarray
    reference: np.ndarray


def make_draws(user: int, reference: int, seed: int = 0) -> Draws:
    """Draw the images of a set and of a reference with replacement."""
    return Draws(draw_images(user, DRAWS, seed), draw_images(reference, DRAWS, seed + 1))


def compare_families(families: list[Family], draws: Draws) -> list[BinComparison]:
    """Compare all bins of all families; the intervals are corrected for their number."""
    rules = [_find_comparable(family) for family in families]
    tests = int(sum(comparable.sum() for comparable, _ in rules)) + 1  # and the comparison of everything
    found: list[BinComparison] = []
    for family, (comparable, missing) in zip(families, rules, strict=True):
        found += _compare_family(family, comparable, missing, draws, tests)
    return found


def compare_all(family: Family, draws: Draws, tests: int) -> Estimate | None:
    """Compare the errors of all cells, relative to the interpolation.

    Args:
        family: Any family in which each cell lies in one bin.
        draws: The draws of images.
        tests: Comparisons in the report.
    """
    ratios = []
    for sums, drawn in ((family.user, draws.user), (family.reference, draws.reference)):
        ratios.append(drawn @ sums.model.sum(1) / (drawn @ sums.baseline.sum(1)))
    images = min(len(family.user.model), len(family.reference.model))
    return estimate_ratio(np.log(ratios[0] / ratios[1]), images, tests)


def correlate_with_frequency(family: Family, draws: Draws) -> dict[str, Any] | None:
    """Correlate how common patterns are in training with their errors, relative to the interpolation.

    Args:
        family: Patterns, as :func:`sort_into_combinations` sorts them.
        draws: The draws of images.

    Returns:
        ``value``, Spearman's rank correlation in the set: negative if rare patterns have the greater errors;
        ``interval`` of 95%; ``reference``, the correlation in the reference; ``patterns`` on which the first rests, and
        of each its ``name``, ``training_share`` and ``relative_error``. None if fewer than five are common in the set.
    """
    shares = family.training / max(1, family.training.sum())
    own, common, errors = _correlate(family.user, shares, draws.user)
    if common.sum() < LEAST_PATTERNS or not np.isfinite(own[0]):
        return None
    patterns = [
        {'name': family.bins[k], 'training_share': round(float(shares[k]), 6), 'relative_error': float(error)}
        for k, error in zip(np.flatnonzero(common), errors, strict=True)
    ]
    low, high = np.quantile(own[np.isfinite(own)], (0.025, 0.975))
    return {
        'value': float(own[0]),
        'interval': [float(low), float(high)],
        'reference': _finite(float(_correlate(family.reference, shares, draws.reference[:1])[0][0])),
        'patterns': patterns,
    }


def _correlate(sums: BinSums, shares: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Correlate shares (K,) with relative errors in each draw; return also which patterns are common, and errors."""
    common = _are_many(sums)
    with np.errstate(divide='ignore', invalid='ignore'):
        errors = (draws @ sums.model[:, common]) / (draws @ sums.baseline[:, common])  # (draws + 1, K)
    return np.array([rank_correlation(shares[common], row) for row in errors]), common, errors[0]


def _find_comparable(family: Family) -> tuple[np.ndarray, np.ndarray]:
    """Find which bins (K,) can be compared, and which of them the training images hardly have."""
    user, reference = family.user, family.reference
    many = [_are_many(sums) for sums in (user, reference)]
    shares = [_shares(family, cells) for cells in (user.cells.sum(0), family.training)]
    missing = (shares[1] < RARE) & (shares[0] > FAR_MORE * shares[1]) & family.is_pattern
    comparable = many[0] & (many[1] | missing) & (user.baseline.sum(0) > 0)
    return comparable, missing & comparable


def _are_many(sums: BinSums) -> np.ndarray:
    return ((sums.cells > 0).sum(0) >= LEAST_IMAGES) & (sums.cells.sum(0) >= LEAST_CELLS)


def _shares(family: Family, cells: np.ndarray) -> np.ndarray:
    return cells / max(1, cells.sum()) if family.is_pattern else np.ones(len(cells))


def _compare_family(
    family: Family, comparable: np.ndarray, missing: np.ndarray, draws: Draws, tests: int
) -> list[BinComparison]:
    """Compare the bins of a family."""
    user = [draws.user @ x for x in (family.user.model, family.user.baseline, family.user.cells)]  # each (draws + 1, K)
    own = [draws.reference @ x for x in (family.reference.model, family.reference.baseline, family.reference.cells)]
    whole = [x.sum(1, keepdims=True) for x in own]
    if not family.is_pattern:
        whole[2] = own[2]
    beside = [np.where(missing, total, x) for x, total in zip(own, whole, strict=True)]
    with np.errstate(divide='ignore', invalid='ignore'):
        errors = user[0] / user[1], beside[0] / beside[1]
        relative = np.log(errors[0] / errors[1])
        raw = np.log(user[0] / user[2] / (beside[0] / beside[2]))
        excess = relative - np.log(_relative_error_of_rest(user) / _relative_error_of_rest(own))
    images = [(sums.cells > 0).sum(0) for sums in (family.user, family.reference)]
    fewer = np.minimum(images[0], np.where(missing, len(family.reference.cells), images[1]))
    shares = [_shares(family, cells) for cells in (family.user.cells.sum(0), family.training)]
    found = []
    for k, name in enumerate(family.bins):
        ratios = {
            ratio: estimate_ratio(logs[:, k], int(fewer[k]), tests) if comparable[k] else None
            for ratio, logs in zip(RATIOS, (raw, raw - relative, relative, excess), strict=True)
        }
        one = BinComparison(
            family=family.name,
            bin=name,
            images=int(images[0][k]),
            share=float(shares[0][k]),
            training_share=float(shares[1][k]),
            is_missing=bool(missing[k]),
            relative_error=float(errors[0][0, k]),
            reference_relative_error=float(errors[1][0, k]),
            verdict=_judge(**ratios),
            **ratios,
        )
        found.append(one)
    return found


def _relative_error_of_rest(sums: list[np.ndarray]) -> np.ndarray:
    """Return the error relative to the interpolation of all other bins; not a number if there are none."""
    model, baseline = (x.sum(1, keepdims=True) - x for x in sums[:2])
    return np.where(baseline > 1e-9 * sums[1].sum(1, keepdims=True), model / np.maximum(baseline, 1e-300), np.nan)


def _judge(
    error_ratio: Estimate | None,
    interpolation_ratio: Estimate | None,
    relative_ratio: Estimate | None,
    excess: Estimate | None,
) -> str:
    """Judge a bin by the corrected intervals."""
    if error_ratio is None or relative_ratio is None or interpolation_ratio is None:
        return UNTESTED
    if relative_ratio.corrected[0] > 1 and (excess is None or excess.corrected[0] > 1):
        return UNKNOWN
    if relative_ratio.corrected[1] < 1 and (excess is None or excess.corrected[1] < 1):
        return BETTER
    is_hard = error_ratio.corrected[0] > 1 and interpolation_ratio.corrected[0] > 1
    return HARD if is_hard and relative_ratio.corrected[0] <= 1 else SAME


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
