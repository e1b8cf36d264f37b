"""Ratios of errors with their spread over images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number with its spread over images.

    Attributes:
        value: The number.
        interval: The interval that holds it with a probability of 95%, looked at alone.
        corrected: The interval that is wide enough for all comparisons of a report together (Bonferroni).
    """

    value: float
    interval: tuple[float, float]
    corrected: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {'value': self.value, 'interval': list(self.interval), 'corrected': list(self.corrected)}

    def __str__(self) -> str:
        """Write the number and the corrected interval, such as ``2.13 (1.6 to 2.84)``."""
        low, high = self.corrected
        return f'{_write(self.value)} ({_write(low)} to {_write(high)})'


def draw_images(images: int, draws: int, seed: int) -> np.ndarray:
    """Draw images with replacement.

    Returns:
        How often each image was drawn (draws + 1, N); in the first row each once.
    """
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(images, np.full(images, 1 / images), size=draws)
    return np.concatenate([np.ones((1, images)), drawn])


def estimate_ratio(logs: np.ndarray, images: int, tests: int) -> Estimate | None:
    """Estimate a ratio from its logarithms in draws of the images.

    The logarithm has about a normal distribution; with few images that have something to say, Student's t with one
    degree of freedom less than these gives a wider interval.

    Args:
        logs: (draws + 1,), the first one of the images themselves; draws without a value are not finite.
        images: Images that contribute, of the set that has fewer.
        tests: Comparisons in the report.

    Returns:
        The ratio with its intervals; None if it is not known.
    """
    known = logs[1:][np.isfinite(logs[1:])]
    if not np.isfinite(logs[0]) or len(known) < len(logs) / 2:
        return None
    deviation = float(known.std(ddof=1))
    intervals = []
    for error in (1 - LEVEL, (1 - LEVEL) / max(1, tests)):
        reach = float(stats.t.ppf(1 - error / 2, max(1, images - 1))) * deviation
        intervals.append((_exp(logs[0] - reach), _exp(logs[0] + reach)))
    return Estimate(_exp(logs[0]), *intervals)


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Return Spearman's rank correlation of two rows of numbers; not a number if there are fewer than three."""
    known = np.isfinite(one) & np.isfinite(other)
    if known.sum() < 3:
        return float('nan')
    ranks = np.stack([stats.rankdata(x[known]) for x in (one, other)])
    if (np.ptp(ranks, axis=1) == 0).any():
        return float('nan')
    return float(np.corrcoef(ranks)[0, 1])


def _exp(x: float) -> float:
    return float(np.exp(np.clip(x, -100, 100)))


def _write(x: float) -> str:
    """Write a positive number with three digits, or whole if it is greater."""
    return f'{x:.3g}' if x < 1000 else f'{x:,.0f}'
