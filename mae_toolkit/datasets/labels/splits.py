"""Split labeled images into training, validation and test."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from mae_toolkit.errors import UserError
from mae_toolkit.printing import format_count, some

FEW = 30  # images from which on there is a test split beside validation
WORDS = {
    'train': ('train', 'training'),
    'val': ('val', 'valid', 'validation', 'dev'),
    'test': ('test', 'testing'),
}
SPLITS = tuple(WORDS)
UNASSIGNED = 'all'  # key of the images that are in no split

T = TypeVar('T')


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


def find_folder_splits(paths: Sequence[Path]) -> list[str | None]:
    """Tell by the names of their folders of which split files are.

    A folder that holds all of the files tells nothing: data in ``my-test/images`` is not a test split. Folders that are
    called just like a split come before others whose names contain the word.

    Args:
        paths: The files, relative to the folder of the data.

    Returns:
        ``'train'``, ``'val'``, ``'test'`` or None for each file.
    """
    folders = [path.parts[:-1] for path in paths]
    shared = 0
    while folders and all(len(parts) > shared and parts[shared] == folders[0][shared] for parts in folders):
        shared += 1

    def find(parts: Sequence[str]) -> str | None:
        exact = (split for part in parts for split, words in WORDS.items() if part.lower() in words)
        return next(exact, None) or next(filter(None, map(find_split, parts)), None)

    return [find(parts[shared:]) for parts in folders]


def group_by_split(items: Iterable[T], splits: Iterable[str | None]) -> dict[str, list[T]]:
    """Group items by split: ``train``, ``val`` and ``test`` as far as there are any, and ``'all'`` for those of none.

    Args:
        items: The items.
        splits: Split of each item; None for none.
    """
    found: dict[str, list[T]] = defaultdict(list)
    for item, split in zip(items, splits, strict=True):
        found[split or UNASSIGNED].append(item)
    return {split: found[split] for split in (*SPLITS, UNASSIGNED) if split in found}


def settle_splits(splits: Mapping[str, Sequence[T]]) -> tuple[dict[str, list[T]], list[str]]:
    """Decide about the images that are in none of the splits that the data names.

    Beside a training split, they are left out, and counted in a note. Beside validation or test alone, they are what is
    trained on.

    Args:
        splits: Images of each split; those of none under ``'all'``.

    Returns:
        Either all images under ``'all'``, or those of the named splits, of which one is ``train``; and notes.

    Raises:
        UserError: If a named split has no image, or there is none for training.
    """
    named = {split: list(splits[split]) for split in SPLITS if split in splits}
    rest = list(splits.get(UNASSIGNED, []))
    if not named:
        return {UNASSIGNED: rest}, []
    total = sum(map(len, named.values())) + len(rest)
    if empty := [split for split, images in named.items() if not images]:
        raise UserError(
            f'The data names the splits {", ".join(named)}, and none of its {format_count(total, "labeled image")} is '
            f'of {empty[0]}: every split needs at least one; correct the names, or remove the split.'
        )
    if 'train' in named and rest:
        return named, [
            f'{len(rest):,} of the {format_count(total, "labeled image")} are in none of the splits '
            f'({", ".join(named)}) and left out'
        ]
    if 'train' in named:
        return named, []
    if rest:
        note = f'no split is called train: the {format_count(len(rest), "image")} that are in no split are trained on'
        return {'train': rest, **named}, [note]
    counts = ' and '.join(f'{format_count(len(images), "image")} for {split}' for split, images in named.items())
    raise UserError(f'The labels have {counts}, and none for training: call the split that is trained on train.')


def complete_splits(
    splits: Mapping[str, Sequence[T]], find_strata: Callable[[Sequence[T]], Sequence[Hashable]], seed: int
) -> tuple[dict[str, list[T]], list[str]]:
    """Split images that have no splits, or no validation, at random; splits that the data names are kept.

    Without validation, images for it, and for the test if the data has none, are taken from those of training.

    Args:
        splits: Images of each split, see :func:`settle_splits`.
        find_strata: Returns what should be spread evenly over the splits, for each of some images.
        seed: Seed of the choice.

    Returns:
        The images of ``train``, ``val`` and, if there are enough, ``test``; and notes.

    Raises:
        UserError: As :func:`settle_splits`, or if there are too few images.
    """
    settled, notes = settle_splits(splits)
    if 'val' in settled:
        return settled, [*notes, 'splits are those of the data']
    (pooled,) = settled.keys() - {'test'}
    images = settled.pop(pooled)
    shares = choose_shares(len(images))
    if 'test' in settled:
        shares = shares._replace(test=0.0)
    chosen = split_images(find_strata(images), shares, seed)
    parts = settled | {split: [images[i] for i in indices] for split, indices in chosen.items()}
    completed = {split: parts[split] for split in SPLITS if split in parts}
    counts = ', '.join(f'{len(part)} {split}' for split, part in completed.items())
    if pooled == 'train':
        added = ' and '.join(split for split in chosen if split != 'train')
        return completed, [*notes, f'{added} split off training at random with seed {seed}: {counts}']
    return completed, [*notes, f'split at random with seed {seed}: {counts}']


def refuse_untrained_classes(classes: Sequence[str], trained: Collection[str], remedy: str) -> None:
    """Refuse classes without a training image.

    Args:
        classes: Names of the classes.
        trained: Those that training images have.
        remedy: What to do with a class that is not to be trained, as the end of a sentence.

    Raises:
        UserError: With their number and the first few.
    """
    lost = [name for name in classes if name not in trained]
    if lost:
        verb = 'has' if len(lost) == 1 else 'have'
        raise UserError(
            f'{len(lost)} of the {len(classes)} classes {verb} no training image ({some(lost)}): move an image of each '
            f'into training, or {remedy}.'
        )


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
