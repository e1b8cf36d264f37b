"""Labeled sets: images with one class each, or with masks, in three splits."""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mae_toolkit.datasets.labeled_dataset import check_fraction, select_fraction
from mae_toolkit.datasets.labels.classes import read_classes
from mae_toolkit.datasets.labels.mask_files import read_mask
from mae_toolkit.datasets.labels.masks import Pair, holds_masks, read_masks
from mae_toolkit.datasets.labels.splits import find_rarest_class
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.probes.segmentation import IGNORED
from mae_toolkit.evaluation.probes.splits import make_three_splits
from mae_toolkit.printing import printable, some

Task = Literal['classes', 'masks']


@dataclass(frozen=True)
class LabeledSet:
    """Images and their labels.

    Attributes:
        task: Whether images have one class each, or masks.
        root: The folder of the images, to which names are relative.
        classes: Names of the classes.
        splits: Rows of the images of ``train``, ``val`` and ``test``.
        images: Files.
        strata: Class of each image; the rarest one in it if it has a mask.
        masks: Files of the masks; empty if there are none.
        values: Value of each class in the masks.
        notes: Where the splits and classes come from.
    """

    task: Task
    root: Path
    classes: list[str]
    splits: dict[str, list[int]]
    images: list[Path]
    strata: list[str]
    masks: list[Path] = field(default_factory=list)
    values: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """Return what the images are called: their paths relative to the folder."""
        return [os.path.relpath(path, self.root) for path in self.images]


def read_set(data: str | Path, images: str | Path | None = None, task: Task | None = None, seed: int = 0) -> LabeledSet:
    """Read a labeled set.

    Args:
        data: Class folders, with or without a folder for each split; a CSV of files and labels; or a folder of images
            and masks.
        images: Folder of the images, if it is another one.
        task: What labels there are; found out by the names of the folders if None.
        seed: Seed of the splits that the set does not have.

    Raises:
        UserError: If there are no labels, images lie outside of class folders, or a class has no training image.
    """
    data, folder = Path(data), None if images is None else Path(images)
    if task is None:
        task = 'masks' if holds_masks(data) or (folder is not None and data.is_dir()) else 'classes'
    found = _read_masks(data, folder, seed) if task == 'masks' else _read_classes(data, folder, seed)
    check_trained(found)
    return found


def _read_classes(data: Path, folder: Path | None, seed: int) -> LabeledSet:
    labels = read_classes(data, folder)
    splits, note = make_three_splits(labels.splits, lambda pairs: [name for _, name in pairs], seed)
    pairs = [pair for part in splits.values() for pair in part]
    images = [path for path, _ in pairs]
    root = data.resolve() if data.is_dir() else (folder or data.parent).resolve()
    return LabeledSet(
        'classes', root, labels.classes, _number(splits), images, [name for _, name in pairs], notes=[note]
    )


def _read_masks(data: Path, folder: Path | None, seed: int) -> LabeledSet:
    labels = read_masks(data, folder)

    def find_strata(pairs: Sequence[Pair]) -> list[Hashable]:
        return list(find_rarest_class([labels.classes_of(pair) for pair in pairs]))

    splits, note = make_three_splits(labels.splits, find_strata, seed)
    pairs = [pair for part in splits.values() for pair in part]
    return LabeledSet(
        'masks',
        (folder or data).resolve(),
        labels.classes,
        _number(splits),
        [pair.image for pair in pairs],
        [str(name) for name in find_strata(pairs)],
        [pair.mask for pair in pairs],
        labels.values,
        [*labels.notes, note],
    )


def _number(splits: dict[str, list]) -> dict[str, list[int]]:
    """Replace the images of the splits by their numbers, one split after another."""
    found, begin = {}, 0
    for name, part in splits.items():
        found[name] = list(range(begin, begin + len(part)))
        begin += len(part)
    return found


def drop_images(labeled: LabeledSet, kept: Sequence[str]) -> LabeledSet:
    """Leave out images that could not be read, and put the others into the order of their vectors.

    Args:
        labeled: The set.
        kept: Names of the images whose vectors there are.

    Raises:
        UserError: If a split or a class has lost its last image.
    """
    rows = {name: row for row, name in enumerate(labeled.names)}
    order = [rows[name] for name in kept]
    place = {row: number for number, row in enumerate(order)}
    found = LabeledSet(
        labeled.task,
        labeled.root,
        labeled.classes,
        {name: [place[row] for row in part if row in place] for name, part in labeled.splits.items()},
        [labeled.images[row] for row in order],
        [labeled.strata[row] for row in order],
        [labeled.masks[row] for row in order] if labeled.masks else [],
        labeled.values,
        labeled.notes,
    )
    check_trained(found)
    return found


def keep_fraction(labeled: LabeledSet, fraction: float, seed: int) -> LabeledSet:
    """Keep a fraction of the training images: of each class, as a dataset of classes does, or of all with masks.

    The images of a smaller fraction are among those of a larger one with the same seed.

    Args:
        labeled: The set.
        fraction: Above 0 and up to 1.
        seed: Seed of the choice.

    Raises:
        UserError: If the fraction is out of range.
    """
    check_fraction('label_fraction', fraction)
    if fraction == 1:
        return labeled
    train = labeled.splits['train']
    labels = [0] * len(train) if labeled.masks else read_labels(labeled)[train].tolist()
    chosen = {train[place] for place in select_fraction(labels, fraction, seed)}
    left_out = set(train) - chosen
    kept = [name for row, name in enumerate(labeled.names) if row not in left_out]
    note = f'{len(chosen)} of {len(train)} training images are used, chosen by the seed {seed}'
    return replace(drop_images(labeled, kept), notes=[*labeled.notes, note])


def check_trained(labeled: LabeledSet) -> None:
    """Refuse a split without images, and classes that are only in validation and test.

    Raises:
        UserError: With the numbers of images and classes.
    """
    empty = [name for name, part in labeled.splits.items() if not part]
    if empty:
        raise UserError(
            f'The split {empty[0]} of {printable(labeled.root)} has no image that can be read, of '
            f'{len(labeled.images)} in all: give more images.'
        )
    if labeled.task == 'masks':
        return
    trained = {labeled.strata[row] for row in labeled.splits['train']}
    lost = sorted({name for name in labeled.strata if name not in trained})
    if lost:
        verb = 'has' if len(lost) == 1 else 'have'
        raise UserError(
            f'{len(lost)} of the {len(labeled.classes)} classes of {printable(labeled.root)} {verb} no training image '
            f'({some(lost)}): move an image of each into training, or remove the class.'
        )


def read_labels(labeled: LabeledSet) -> Tensor:
    """Return the class index of each image (N,)."""
    index = {name: number for number, name in enumerate(labeled.classes)}
    return torch.tensor([index[name] for name in labeled.strata])


def load_masks(labeled: LabeledSet, sizes: np.ndarray, size: tuple[int, int]) -> Tensor:
    """Load masks, resized as the images are: whole, each pixel with the value of the nearest one.

    Args:
        labeled: The set.
        sizes: (N, 2), height and width of each image in its file.
        size: Height and width of the result.

    Returns:
        Class indices (N, H, W) int16, :data:`~.segmentation.IGNORED` for pixels that do not count.

    Raises:
        UserError: If a mask has another size than its image has when it is read, which EXIF may rotate.
    """
    number_of = {value: number for number, value in enumerate(labeled.values)}
    masks = torch.empty(len(labeled.masks), *size, dtype=torch.int16)
    for row, (path, image) in enumerate(zip(labeled.masks, labeled.images, strict=True)):
        mask = read_mask(path)
        if mask.shape != tuple(sizes[row]):
            raise UserError(
                f'{printable(path.name)} has {mask.shape[1]} x {mask.shape[0]} pixels, and {printable(image.name)} '
                f'{sizes[row][1]} x {sizes[row][0]} as it is read (EXIF may rotate it): save both at one size.'
            )
        small = np.array(Image.fromarray(mask.astype(np.int32)).resize(size[::-1], Image.Resampling.NEAREST))
        values, inverse = np.unique(small, return_inverse=True)
        classes = np.array([number_of.get(int(value), IGNORED) for value in values], np.int16)
        masks[row] = torch.from_numpy(classes[inverse].reshape(size))
    return masks
