"""Findings of the report of biases in plain sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mae_toolkit.evaluation.reconstruction_bias.compare import LEAST_CELLS, LEAST_IMAGES, BinComparison
from mae_toolkit.evaluation.reconstruction_bias.ratios import Estimate
from mae_toolkit.printing import format_count

MOST = 5  # patterns of a kind that get a sentence of their own


def describe_bins(unknown: Sequence[BinComparison], hard: Sequence[BinComparison], tests: int) -> list[str]:
    """Describe the patterns that stand out, or say that none does.

    Args:
        unknown: Patterns that the model does not know, the surest first.
        hard: Patterns that are hard for anyone, the hardest first.
        tests: How many patterns were compared.
    """
    if not tests:
        least = f'{LEAST_IMAGES} images and {LEAST_CELLS} hidden cells'
        return [f'No pattern could be compared: each takes {least} in both sets.']
    found = [_describe_unknown(one) for one in unknown[:MOST]]
    if len(unknown) > MOST:
        more = format_count(len(unknown) - MOST, 'more pattern is', 'more patterns are')
        found.append(f'{more} unknown to the model; see the numbers.')
    if not unknown:
        found.append(f'No bias found: none of {tests} patterns has an error that stands out beyond chance.')
    for one in hard[:MOST]:
        found.append(
            f'Hard for anyone: {one.family} "{one.bin}". Its error is {one.error_ratio} times that in the reference, '
            'but an interpolation without a model also does worse there.'
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
        which = 'clearly higher' if low > 1 else 'clearly lower' if high < 1 else 'no clear difference'
        found.append(
            f'Overall: relative to the interpolation, the error on your images is {overall} times that on the '
            f'reference images, {which}.'
        )
    found.append(
        f'{above:.0%} of your {sizes["user"]} images have a higher relative error than 95% of the '
        f'{sizes["reference"]} reference images; if they were like these, about 5% would.'
    )
    return found


def describe_correlation(correlation: Mapping[str, Any] | None) -> list[str]:
    """Describe whether rare patterns have the greater errors."""
    if correlation is None:
        return []
    low, high = correlation['interval']
    what = 'No clear trend between the error of a pattern and how common it was in training'
    if high < 0:
        what = 'Rare patterns tend to have higher errors: the model favors common ones, or rare ones are harder'
    elif low > 0:
        what = 'Rare patterns tend to have lower errors'
    beside = '' if correlation['reference'] is None else f'; {correlation["reference"]:.2f} in the reference'
    return [
        f'{what} (rank correlation of relative error and frequency in training over {len(correlation["patterns"])} '
        f'patterns of texture and color: {correlation["value"]:.2f}, {low:.2f} to {high:.2f}{beside}).'
    ]


def _describe_unknown(one: BinComparison) -> str:
    """Describe a pattern that the model does not know."""
    beside = 'that of all cells of the reference' if one.is_missing else 'that of the same pattern in the reference'
    text = f'Unknown to the model: {one.family} "{one.bin}". Its error, relative to an interpolation without a model, '
    text += f'is {one.relative_ratio} times {beside}'
    if one.share < 1:
        text += f'; {one.share:.1%} of your hidden cells have it, and {one.training_share:.1%} in the training images'
    return f'{text}.'
