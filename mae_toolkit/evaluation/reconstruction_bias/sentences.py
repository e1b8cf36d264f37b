"""Findings of the report of biases in plain sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mae_toolkit.evaluation.reconstruction_bias.compare import BinComparison
from mae_toolkit.evaluation.reconstruction_bias.ratios import Estimate

MOST = 5  # patterns of a kind that get a sentence of their own


def describe_bins(unknown: Sequence[BinComparison], hard: Sequence[BinComparison], tests: int) -> list[str]:
    """Describe the patterns that stand out, or say that none does.

    Args:
        unknown: Patterns that the model does not know, the surest first.
        hard: Patterns that are hard for anyone, the hardest first.
        tests: How many patterns were compared.
    """
    found = [_describe_unknown(one) for one in unknown[:MOST]]
    if len(unknown) > MOST:
        found.append(f'{len(unknown) - MOST} more patterns are unknown to the model; see the numbers.')
    if not unknown:
        found.append(f'No bias found: none of {tests} patterns has an error that stands out beyond chance.')
    for one in hard[:MOST]:
        found.append(
            f'Hard for anyone: {one.family} "{one.bin}", with {one.error_ratio} times the error of the reference; an '
            'interpolation without a model has more trouble there, too.'
        )
    return found


def describe_whole(overall: Estimate | None, above: float, sizes: Mapping[str, int]) -> list[str]:
    """Describe the errors of all cells, and how many images are less familiar than those of the reference.

    Args:
        overall: Ratio of the errors relative to the interpolation.
        above: Share of the images above the 95th percentile of the reference.
        sizes: Images of each set.
    """
    found = []
    if overall is not None:
        low, high = overall.corrected
        which = 'higher than' if low > 1 else 'lower than' if high < 1 else 'not clearly different from'
        found.append(
            f'Overall: the error of your images, relative to the interpolation, is {which} that of the reference: '
            f'{overall} times.'
        )
    found.append(
        f'{above:.0%} of your {sizes["user"]} images have a greater relative error than 95% of the '
        f'{sizes["reference"]} of the reference; of images like those it would be about 5%.'
    )
    return found


def describe_correlation(correlation: Mapping[str, Any] | None) -> list[str]:
    """Describe whether rare patterns have the greater errors."""
    if correlation is None:
        return []
    low, high = correlation['interval']
    what = 'no clear order'
    if high < 0:
        what = 'the rarer a pattern, the greater its error: a bias toward common patterns, or rare ones are the harder'
    elif low > 0:
        what = 'the rarer a pattern, the smaller its error'
    beside = '' if correlation['reference'] is None else f'; in the reference {correlation["reference"]:.2f}'
    return [
        f'Rank correlation of the frequency in the training and the relative error, over '
        f'{len(correlation["patterns"])} patterns of texture and color: {correlation["value"]:.2f} ({low:.2f} to '
        f'{high:.2f}{beside}): {what}.'
    ]


def _describe_unknown(one: BinComparison) -> str:
    """Describe a pattern that the model does not know."""
    beside = 'all cells of the reference' if one.is_missing else 'the same in the reference'
    text = f'Unknown to the model: {one.family} "{one.bin}", with {one.relative_ratio} times the error of {beside}, '
    text += 'relative to an interpolation without a model'
    if one.share < 1:
        text += f'; {one.share:.1%} of your hidden cells and {one.training_share:.1%} of those of the training images'
    return f'{text}.'
