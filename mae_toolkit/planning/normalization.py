"""Compare the mean and deviation by which images are normalized with those of the images themselves."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

MOST_SHIFT = 1.0  # distance of the means, in deviations of the weights
MOST_SPREAD = 2.0  # ratio of the deviations, either way


def describe_unlike(
    mean: Sequence[float],
    std: Sequence[float],
    own_mean: Sequence[float],
    own_std: Sequence[float],
    remedy: str = '--cfg-options mean={mean} std={std}',
) -> str | None:
    """Say in one sentence that images are quite unlike those of the weights, by both numbers, and what to do.

    Bright images are far outside of the range that an encoder was trained on with dark ones; how much that costs, only
    a trial tells. Photographs of all kinds are alike in this sense.

    Example: microscope images with a mean of 36, normalized by a run's mean of 188 and deviation of 40, lie 3.8
    deviations below those of the run.

    Args:
        mean: What the images are normalized by, per channel: those of the weights, or of the run that trained them.
        std: The deviation, per channel.
        own_mean: Mean of the images themselves, in the same units; that of a single channel counts for all.
        own_std: Their deviation.
        remedy: The options that normalize by the images' own, with ``{mean}`` and ``{std}``.

    Returns:
        The sentence; None for images that are alike, or that have other channels.
    """
    own_mean, own_std = _repeat(own_mean, len(mean)), _repeat(own_std, len(mean))
    if len(own_mean) != len(mean) or len(std) != len(mean) or not all(value > 0 for value in (*std, *own_std)):
        return None
    shift = fmean((own - given) / deviation for own, given, deviation in zip(own_mean, mean, std, strict=True))
    spread = fmean(own / given for own, given in zip(own_std, std, strict=True))
    if abs(shift) <= MOST_SHIFT and 1 / MOST_SPREAD <= spread <= MOST_SPREAD:
        return None
    options = remedy.format(mean=_write(own_mean), std=_write(own_std))
    return (
        f'The images have a mean of {fmean(own_mean):.4g} and a deviation of {fmean(own_std):.4g}, but are normalized '
        f'by those that the encoder was trained with, {fmean(mean):.4g} and {fmean(std):.4g}: also try their own, by '
        f'{options}, and keep what gives the better result.'
    )


def _repeat(values: Sequence[float], channels: int) -> list[float]:
    return list(values) * (channels if len(values) == 1 else 1)


def _write(values: Sequence[float]) -> str:
    return ','.join(f'{value:.4g}' for value in values) if len(values) > 1 else f'[{values[0]:.4g}]'
