"""A few labeled images in memory, by which an encoder is measured again and again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mae_toolkit.datasets.any_image import as_image_file
from mae_toolkit.datasets.collate import image_collate
from mae_toolkit.datasets.image_io import BrokenImageError
from mae_toolkit.datasets.image_pipeline import apply_pipeline
from mae_toolkit.datasets.labels.classes import read_classes
from mae_toolkit.datasets.labels.masks import holds_masks, read_masks
from mae_toolkit.datasets.transforms import CenterCrop, Resize, Transform
from mae_toolkit.errors import UserError
from mae_toolkit.printing import format_count, printable, some
from mae_toolkit.spread import spread_indices

if TYPE_CHECKING:  # it imports scikit-learn, which takes a second
    from mae_toolkit.evaluation.probes.sets import LabeledSet

Batch = Mapping[str, Any]  # as image_collate makes it
BATCH = 32
HELD_OUT = 4  # of a folder without splits, one image in so many is compared with the others


@dataclass(frozen=True)
class LabeledImages:
    """Batches of labeled images in memory, whose ``labels`` are classes (B,) or masks (B, H, W).

    Attributes:
        train: Images among which neighbors are looked for.
        test: Images that are classified or segmented.
        classes: Number of classes.
        has_masks: Whether the labels are masks.
    """

    train: Sequence[Batch]
    test: Sequence[Batch]
    classes: int
    has_masks: bool = False


def read_labeled_set(folder: str | Path) -> LabeledSet:
    """Find labeled images and their labels without reading the images.

    Neighbors are looked for in the split ``train``. What is compared with them is ``val``, so that a test chooses no
    weights; or ``test``, if there is no other. Of data without splits it is every fourth image.

    Args:
        folder: Class folders with or without splits, a CSV of files and classes, or a folder of images and masks.

    Returns:
        A set with the splits ``train`` and ``test``.

    Raises:
        UserError: If there is no such folder, or there are too few classes or images in it.
    """
    from mae_toolkit.evaluation.probes.sets import LabeledSet

    folder = Path(folder)
    if not folder.exists():
        raise UserError(
            f'There is no folder {printable(folder)} of labeled images: name one with class folders, or with images '
            'and masks in it.'
        )
    if holds_masks(folder):
        masks = read_masks(folder)
        _check_classes(folder, masks.classes)
        pairs, rows = _split(masks.splits, folder)
        images, files = [pair.image for pair in pairs], [pair.mask for pair in pairs]
        found = LabeledSet('masks', folder, masks.classes, rows, images, ['' for _ in pairs], files, masks.values)
    else:
        labels = read_classes(folder)
        _check_classes(folder, labels.classes)
        named, rows = _split(labels.splits, folder, lambda pair: pair[1])
        paths, strata = [path for path, _ in named], [name for _, name in named]
        found = LabeledSet('classes', folder, labels.classes, rows, paths, strata)
    return found


def _check_classes(folder: Path, classes: Sequence[str]) -> None:
    if len(classes) < 2:
        raise UserError(
            f'{printable(folder)} has the classes {some(classes) or "none"}: two or more are needed to tell them apart.'
        )


def _split(
    splits: Mapping[str, Sequence[Any]], folder: Path, class_of: Callable[[Any], str] | None = None
) -> tuple[list[Any], dict[str, list[int]]]:
    """Choose what is compared with what.

    Args:
        splits: Items of each split, all of them under ``'all'`` if there are none.
        folder: The folder, for the error.
        class_of: Returns the class of an item, if it has a single one.

    Returns:
        The items, and the rows of those of ``train`` and ``test``.
    """
    if 'all' not in splits:
        train, test = splits['train'], next((splits[name] for name in ('val', 'test') if name in splits), [])
        if test:
            return [*train, *test], _number(len(train), len(test))
        splits = {'all': train}  # a training split alone
    items = list(splits['all'])
    if len(items) < HELD_OUT:
        raise UserError(
            f'{printable(folder)} has {format_count(len(items), "labeled image")}: {HELD_OUT} or more are needed to '
            'compare them.'
        )
    tested = [i for i in range(len(items)) if i % HELD_OUT == HELD_OUT - 1]
    rest = sorted(set(range(len(items))) - set(tested))
    if class_of is not None:  # the only image of a class has nothing to be compared with
        known = {class_of(items[i]) for i in rest}
        rest = sorted({*rest, *(i for i in tested if class_of(items[i]) not in known)})
        tested = [i for i in tested if class_of(items[i]) in known]
    if not tested:
        raise UserError(
            f'{printable(folder)} has {format_count(len(items), "labeled image")}, and none has another of its class '
            'to be compared with: add images to its classes.'
        )
    return [items[i] for i in (*rest, *tested)], _number(len(rest), len(tested))


def _number(train: int, test: int) -> dict[str, list[int]]:
    return {'train': list(range(train)), 'test': list(range(train, train + test))}


def load_labeled_images(folder: str | Path, size: Sequence[int], channels: int, images: int) -> LabeledImages:
    """Load labeled images, at one size: with classes they are resized and cut, with masks they are resized whole.

    Args:
        folder: See :func:`read_labeled_set`.
        size: Height and width of the images.
        channels: Their channels.
        images: How many of each split are loaded at most, at equal distances in their list, which is sorted by class.

    Raises:
        UserError: If there is no such folder, there are fewer than two classes in it, or an image cannot be read.
    """
    labeled = read_labeled_set(folder)
    rows, columns = (int(value) for value in size)
    steps: list[Transform] = [Resize((rows, columns))]
    if not labeled.masks:
        steps = [Resize(max(rows, columns)), CenterCrop((rows, columns))]
    train, test = (_load_split(labeled, name, steps, (rows, columns), channels, images) for name in ('train', 'test'))
    return LabeledImages(train, test, len(labeled.classes), bool(labeled.masks))


def _load_split(
    labeled: LabeledSet, split: str, steps: Sequence[Transform], size: tuple[int, int], channels: int, images: int
) -> list[Batch]:
    """Load some images of a split."""
    from mae_toolkit.evaluation.probes.sets import load_masks, read_labels

    rows = labeled.splits[split]
    rows = [rows[place] for place in spread_indices(len(rows), images)]
    chosen = replace(
        labeled,
        images=[labeled.images[row] for row in rows],
        strata=[labeled.strata[row] for row in rows],
        masks=[labeled.masks[row] for row in rows] if labeled.masks else [],
    )
    loaded = [_load_image(path, steps, channels) for path in chosen.images]
    if chosen.masks:
        labels = load_masks(chosen, np.array([own for _, own in loaded], dtype=int).reshape(-1, 2), size)
    else:
        labels = read_labels(chosen)
    items = [item for item, _ in loaded]
    return [
        image_collate(items[i : i + BATCH]) | {'labels': labels[i : i + BATCH]} for i in range(0, len(items), BATCH)
    ]


def _load_image(path: Path, steps: Sequence[Transform], channels: int) -> tuple[dict[str, Any], tuple[int, int]]:
    """Load an image as :class:`ImageDataset` does, and return also its height and width in the file."""
    try:
        file = as_image_file(path)
        array = apply_pipeline(file, steps, channels, str(path), np.random.default_rng(0))
    except BrokenImageError as error:
        raise UserError(
            f'{printable(path)} of the labeled images cannot be read ({error.reason}): remove it.'
        ) from None
    img: Tensor = torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))  # (C, H, W)
    return {'img': img, 'name': path.name, 'broken': []}, file.size


def load_batches(
    dataset: Any, images: int, indices: Sequence[int] | None = None, collate: Any = image_collate
) -> list[Batch]:
    """Load images of a dataset at equal distances, without an effect on random generators.

    Args:
        dataset: Dataset of images.
        images: How many are loaded at most.
        indices: Indices to choose from; all if None.
        collate: Makes a batch of items.
    """
    indices = range(len(dataset)) if indices is None else indices
    chosen = [indices[place] for place in spread_indices(len(indices), images)]
    with torch.random.fork_rng(range(torch.cuda.device_count())):  # datasets of other libraries draw from them
        return [collate([dataset[i] for i in chosen[j : j + BATCH]]) for j in range(0, len(chosen), BATCH)]
