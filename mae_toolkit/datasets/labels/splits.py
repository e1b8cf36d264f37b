"""Split labeled images into training, validation and test."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence, Set
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mae_toolkit.errors import UserError

FEW = 30  # images from which on there is a test split beside validation
WORDS = {
    'train': ('train', 'training'),
    'val': ('val', 'valid', 'validation', 'dev'),
    'test': ('test', 'testing'),
}


class Shares(NamedTuple):
    """Shares of the images that are held out.

    Attributes:
        val: For validation, by which the best checkpoint is chosen.
        test: For the test at the end; 0 for none.
    """

    val: float
    test: float


def choose_shares(count: int) -> Shares:
    """Choose how many images to hold out: 15% and 15%, or of few images a quarter for validation alone.

    Args:
        count: Number of images.
    """
    return Shares(0.15, 0.15) if count >= FEW else Shares(0.25, 0.0)


def find_split(path: str | Path) -> str | None:
    """Tell by the name of a file or folder, or by that of its parent, of which split it is.

    Examples: ``instances_train2017.json``, ``valid/_annotations.coco.json``, ``labels/test``.

    Args:
        path: The file or folder.

    Returns:
        ``'train'``, ``'val'`` or ``'test'``; None if the names do not tell.
    """
    path = Path(path)
    for name in (path.stem, path.parent.name):
        words = re.findall(r'[a-z]+', name.lower())
        found = [split for split, known in WORDS.items() if any(word in known for word in words)]
        if len(found) == 1:
            return found[0]
    return None


def split_images(strata: Sequence[Hashable], shares: Shares, seed: int) -> dict[str, list[int]]:
    """Split images at random, in equal shares of each stratum.

    A stratum with too few images for all splits is trained on. The shares hold over all strata together: what one
    rounds up, the next rounds down.

    Args:
        strata: Class of each image, or whatever should be spread evenly over the splits.
        shares: Shares of the images that are held out.
        seed: Seed of the choice.

    Returns:
        Indices of the images of ``train``, ``val`` and, if it has a share, ``test``, ascending.

    Raises:
        UserError: If there are fewer images than splits.
    """
    wanted = {'val': shares.val, 'test': shares.test} if shares.test else {'val': shares.val}
    if len(strata) <= len(wanted):
        raise UserError(f'{len(strata)} labeled images cannot be split into training and validation: label more.')
    members: dict[Hashable, list[int]] = defaultdict(list)
    for i, stratum in enumerate(strata):
        members[stratum].append(i)
    rng = np.random.default_rng(seed)
    splits: dict[str, list[int]] = {'train': [], **{name: [] for name in wanted}}
    owed = dict.fromkeys(wanted, 0.0)  # images that a split should have by now, less those that it has
    for stratum in sorted(members, key=lambda key: (len(members[key]), str(key))):
        left = [members[stratum][i] for i in rng.permutation(len(members[stratum]))]
        total = len(left)
        for name, share in wanted.items():
            owed[name] += share * total
            take = max(0, min(round(owed[name]), len(left) - 1))  # one stays for training
            owed[name] -= take
            splits[name] += left[:take]
            left = left[take:]
        splits['train'] += left
    for name in wanted:  # of a handful of images, the shares round to none
        if not splits[name]:
            splits[name].append(splits['train'].pop())
    return {name: sorted(indices) for name, indices in splits.items()}


def find_rarest_class(classes: Sequence[Set[str]]) -> list[str]:
    """Return for each image the class that the fewest images have, by which images with several classes are split.

    Args:
        classes: Classes of each image; the result is ``''`` for an image without any.
    """
    counts = Counter(name for names in classes for name in names)
    return [min(names, key=lambda name: (counts[name], name), default='') for names in classes]
