"""Images with one class label each."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from mae_toolkit.datasets.image_dataset import ImageDataset
from mae_toolkit.datasets.image_files import contains_images, list_images
from mae_toolkit.datasets.item_arguments import check_integer
from mae_toolkit.datasets.path_list import PathList
from mae_toolkit.datasets.transforms import Transform
from mae_toolkit.errors import UserError
from mae_toolkit.printing import format_count
from mae_toolkit.registry import DATASETS, suggest


@DATASETS.register_module()
class LabeledDataset(ImageDataset):
    """Images with one label each, which is the name of their folder or stands in a list.

    In folders, the layout is ``<data_root>/<split>/<class>/...``. A list has ``path class`` in each line, separated by
    the last blank, with paths relative to ``data_root``. Classes are indexed in alphabetical order, numbers too: the
    classes 0, 1, 2 and 10 are sorted as 0, 1, 10, 2.

    Args:
        data_root: Folder of the images; see :func:`list_images`.
        pipeline: Transforms or their configs; see :class:`ImageDataset`.
        ann_file: The list of paths and classes, if labels do not come from folders.
        layout: Layout of the files; see :func:`list_images`.
        split: Folder within ``data_root``, such as ``'train'``.
        classes: Names of the classes in the order of their indices; or the name of the split whose folders are the
            classes, so that a validation split that lacks a class still uses the indices of training. By default the
            classes found in this split or list; the runner passes those of training to validation and test datasets.
        label_fraction: Fraction of the images of each class to use, at least one image per class. The images of a
            smaller fraction are among those of a larger one. None uses all images.
        label_seed: Seed that decides which images are used. It is not the seed of the run, so that runs with different
            seeds train on the same images.
        seed: Seed of the pipeline's random numbers.
        **kwargs: Further arguments of :class:`ImageDataset`.

    Attributes:
        labels: Class index of every image (N,).
        metainfo: ``{'classes': [...]}``, the names of the classes.

    Raises:
        UserError: If there are fewer than two classes, an image is of an unknown class, or a list has an image under
            two classes.
    """

    def __init__(
        self,
        data_root: str | Path,
        pipeline: Sequence[dict | Transform] = (),
        ann_file: str | Path | None = None,
        layout: str | None = None,
        split: str | Path | None = None,
        classes: Sequence[str] | str | None = None,
        label_fraction: float | None = None,
        label_seed: int = 0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        check_not_coco(layout, ann_file)
        if label_fraction is not None:
            check_fraction('label_fraction', label_fraction)
        check_integer('label_seed', label_seed, 0, 'the seed that chooses the images')
        super().__init__(data_root, pipeline, ann_file, layout, split, seed=seed, **kwargs)
        names = [self.names[i] for i in range(len(self.names))]
        if ann_file is None:
            class_names = [get_class_folder(name, split) for name in names]
        else:
            pairs = [parse_list_line(line) for line in list_images(data_root, ann_file, layout)]
            _check_one_class_each(ann_file, pairs)
            class_of_name = dict(pairs)
            class_names = [class_of_name[name] for name in names]
        self.metainfo = {'classes': self._find_classes(classes, class_names)}
        self.labels = self._to_indices(names, class_names)
        if label_fraction is not None:
            kept = select_fraction(self.labels, label_fraction, label_seed)
            self.names, self.labels = PathList([names[i] for i in kept]), self.labels[kept]

    def _list_images(
        self, data_root: str | Path, ann_file: str | Path | None, layout: str | None, split: str | Path | None
    ) -> list[str]:
        """List the names of the images, without the classes that a list has behind them."""
        lines = super()._list_images(data_root, ann_file, layout, split)
        return lines if ann_file is None else [parse_list_line(line)[0] for line in lines]

    def _extra_fields(self, position: int) -> dict[str, Any]:
        """Return the label of the image at a position among the names."""
        return {'label': int(self.labels[position])}

    def _find_classes(self, classes: Sequence[str] | str | None, class_names: Sequence[str]) -> list[str]:
        """Return the names of the classes in the order of their indices."""
        if isinstance(classes, str):
            folder = self.root / classes
            if not folder.is_dir():
                raise UserError(
                    f'There is no folder {folder}; classes={classes!r} must be a split or a list of class names.'
                )
            classes = list_class_folders(folder)  # as that split indexes its own
        names = sorted(set(class_names)) if classes is None else list(classes)
        if len(set(names)) < 2 or len(set(names)) < len(names):
            raise UserError(f'{self.root} has the classes {", ".join(names) or "none"}: two or more, each once.')
        return names

    def _to_indices(self, names: Sequence[str], class_names: Sequence[str]) -> np.ndarray:
        """Return the class index of every image (N,)."""
        index_of = {name: index for index, name in enumerate(self.metainfo['classes'])}
        for name, class_name in zip(names, class_names, strict=True):
            if class_name not in index_of:
                raise UserError(
                    f'{name} is of class {class_name!r}, which is none of the classes'
                    f'{suggest(class_name, list(index_of))}'
                )
        return np.array([index_of[class_name] for class_name in class_names])


def check_not_coco(layout: str | None, ann_file: str | Path | None) -> None:
    """Refuse annotations in COCO's format, which have no image-level classes.

    Raises:
        UserError: If the layout is ``'coco'`` or the annotation file is JSON.
    """
    if layout == 'coco' or str(ann_file).lower().endswith('.json'):
        raise UserError('COCO has boxes, not classes of images: use folders, or a list of path and class.')


def check_fraction(name: str, fraction: object) -> None:
    """Refuse a value that is not a fraction of the images.

    Args:
        name: Name of the argument, with which the error begins.
        fraction: The value of the argument.

    Raises:
        UserError: If it is not a number above 0 and at most 1.
    """
    if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 < fraction <= 1:
        raise UserError(f'{name}={fraction!r} must be a fraction of the images: a number above 0 and at most 1.')


def select_fraction(labels: Sequence[int] | np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Select a fraction of the images of each class at random (a stratified subset).

    With the same seed, the images of a smaller fraction are among those of a larger one. For example, 10 % of 100
    images of one class and 8 of another are 10 images of the first and 1 of the second.

    Args:
        labels: Class index of each image (N,).
        fraction: Fraction to keep of each class; the number is rounded, and at least one image is kept.
        seed: Seed of the choice.

    Returns:
        Indices of the selected images, ascending.
    """
    kept, labels = [], np.asarray(labels)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = np.random.default_rng([seed, label]).permutation(members)
        kept.append(order[: max(1, round(fraction * len(members)))])
    return np.sort(np.concatenate(kept))


def get_class_folder(name: str, split: str | Path | None) -> str:
    """Return the name of the folder directly below a split in which an image lies: ``train/cat/1.jpg`` is a ``cat``.

    Args:
        name: Path of the image relative to ``data_root``.
        split: Folder of the split relative to ``data_root``; None if the class folders lie in ``data_root``.

    Raises:
        UserError: If the image lies beside the class folders.
    """
    parts = PurePath(name).relative_to(split or '').parts
    if len(parts) < 2:
        raise UserError(f'{name} lies in no class folder: images belong in <data_root>/<split>/<class>/.')
    return parts[0]


def list_class_folders(folder: Path) -> list[str]:
    """List the names of the subfolders that contain images, in alphabetical order and without hidden ones."""
    folders = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith('.')]
    return sorted(path.name for path in folders if contains_images(path))


def parse_list_line(line: str) -> tuple[str, str]:
    """Split a line of a list into path and class at its last blank: ``'my cat.png cat'`` is ``my cat.png`` and ``cat``.

    Raises:
        UserError: If there is no class behind the path.
    """
    parts = line.rsplit(maxsplit=1)
    if len(parts) < 2:
        raise UserError(f'The line {line!r} of the list has no class: write "path class".')
    return parts[0], parts[1]


def find_label_conflicts(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Find images that a list has under several classes.

    Args:
        pairs: Path and class of each line. ``./a.png`` and ``a.png`` are the same image.

    Returns:
        The classes of each such image, in the order of the list.
    """
    classes: dict[str, dict[str, None]] = {}
    for name, class_name in pairs:
        classes.setdefault(os.path.normpath(name), {})[class_name] = None
    return {name: list(found) for name, found in classes.items() if len(found) > 1}


def _check_one_class_each(ann_file: str | Path, pairs: Sequence[tuple[str, str]]) -> None:
    if conflicts := find_label_conflicts(pairs):
        name, classes = next(iter(conflicts.items()))
        verb = 'is' if len(conflicts) == 1 else 'are'
        raise UserError(
            f'{format_count(len(conflicts), "image")} of {ann_file} {verb} listed under several classes, such as '
            f'{name} under {" and ".join(classes)}: keep one of the lines, as an image has one class.'
        )
