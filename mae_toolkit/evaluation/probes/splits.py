"""Training, validation and test images of any labeled set."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

from mae_toolkit.datasets.labels.splits import FEW, Shares, split_images

T = TypeVar('T')
SHARE = 0.15  # of all images for validation, and for the test
SHARE_OF_FEW = 0.25


def make_three_splits(
    splits: Mapping[str, Sequence[T]], find_strata: Callable[[Sequence[T]], Sequence[Hashable]], seed: int
) -> tuple[dict[str, list[T]], str]:
    """Make splits for training, validation and test of those that a set has.

    Levels, poolings and probes are chosen on the validation, so that it has to be another split than the test. A set
    that has a training split and only one other keeps that as its test; its validation is a part of the training.

    Args:
        splits: What belongs to each split; all of it under ``'all'`` if the set has none.
        find_strata: Returns the class of each.
        seed: Seed of what is drawn at random.

    Returns:
        ``train``, ``val`` and ``test``; and a sentence that says where they come from.

    Raises:
        UserError: If there are fewer images than splits.
    """
    if {'train', 'val', 'test'} <= splits.keys():
        return {name: list(splits[name]) for name in ('train', 'val', 'test')}, 'the splits are those of the set'
    others = [name for name in ('test', 'val') if name in splits]
    items = list(splits['train'] if others else [item for part in splits.values() for item in part])
    share = SHARE if len(items) >= FEW else SHARE_OF_FEW
    shares = Shares(share, 0.0 if others else share)
    chosen = split_images(list(find_strata(items)), shares, seed)
    found = {name: [items[row] for row in rows] for name, rows in chosen.items()}
    if not others:
        return found, f'the set has no splits: {share:.0%} of each class are validation and test, seed {seed}'
    found['test'] = list(splits[others[0]])
    return found, (
        f'the test is the split {others[0]}; {share:.0%} of the training images of each class are the validation, '
        f'seed {seed}'
    )
