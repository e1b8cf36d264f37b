"""Images with one label each."""

import os
from pathlib import PurePath

import numpy as np

from mae_toolkit.datasets.image_dataset import ImageDataset, PathList, check_count
from mae_toolkit.datasets.image_files import has_images, list_images
from mae_toolkit.errors import UserError
from mae_toolkit.printing import format_count
from mae_toolkit.registry import DATASETS, suggest


@DATASETS.register_module()
class LabeledDataset(ImageDataset):
    """The images of :class:`ImageDataset`; the folder in which one lies is its class, or a list says it.

    Classes are numbered in alphabetical order, numbers too: 0, 1, 10, 2. Folders: ``<data_root>/<split>/<class>/...``.
    A list has ``path class`` in each line, parted by the last blank; the paths are relative to ``data_root``.

    Args:
        data_root (str), pipeline (list[dict]), ann_file (str | None), layout (str | None), split (str | None): As of
            :class:`ImageDataset`.
        classes (list[str] | str | None): Names of the classes in the order of their numbers; or the split whose
            folders they are, so that a validation split that lacks a class numbers them as training does. By default
            those of this split or list; the runner gives those of training to the datasets of validation and test.
        labels (float | None): Share of the images of each class that are used, one at least; a larger share holds the
            smaller ones.
        labels_seed (int): Which images these are; not the seed of the run, so that runs of different seeds see the
            same images.
        seed (int): Of the random numbers of the pipeline.
        **kwargs: As of :class:`ImageDataset`.

    Attributes:
        labels (ndarray): (N,) the class of every image.

    Raises:
        UserError: If there are fewer than two classes, or an image is of none of them, or of two in a list.
    """

    def __init__(
        self,
        data_root,
        pipeline=(),
        ann_file=None,
        layout=None,
        split=None,
        classes=None,
        labels=None,
        labels_seed=0,
        seed=0,
        **kwargs,
    ):
        refuse_coco(layout, ann_file)
        if labels is not None:
            check_share('labels', labels)
        check_count('labels_seed', labels_seed, 0, 'the seed that chooses images')
        super().__init__(data_root, pipeline, ann_file, layout, split, seed=seed, **kwargs)
        names = [self.names[i] for i in range(len(self.names))]
        if ann_file is None:
            found = [folder_of(name, split) for name in names]
        else:
            pairs = [split_line(line) for line in list_images(data_root, ann_file, layout)]
            _refuse_two_classes(ann_file, pairs)
            listed = dict(pairs)
            found = [listed[name] for name in names]
        self.metainfo = {'classes': self._named(classes, found)}
        self.labels = self._numbers(names, found)
        if labels is not None:
            kept = chosen(self.labels, labels, labels_seed)
            self.names, self.labels = PathList([names[i] for i in kept]), self.labels[kept]

    def _list(self, data_root, ann_file, layout, split):
        """Names of the images, without the classes of a list."""
        lines = super()._list(data_root, ann_file, layout, split)
        return lines if ann_file is None else [split_line(line)[0] for line in lines]

    def _about(self, place):
        """The label of an image."""
        return {'label': int(self.labels[place])}

    def _named(self, classes, found):
        """Names of the classes by their number."""
        if isinstance(classes, str):
            folder = self.root / classes
            if not folder.is_dir():
                raise UserError(f'There is no folder {folder}; classes={classes!r} is a split, or a list of names.')
            classes = class_folders(folder)  # as that split numbers its own
        names = sorted(set(found)) if classes is None else list(classes)
        if len(set(names)) < 2 or len(set(names)) < len(names):
            raise UserError(f'{self.root} has the classes {", ".join(names) or "none"}: two or more, each once.')
        return names

    def _numbers(self, names, found):
        """Number of the class of every image (N,)."""
        known = {name: number for number, name in enumerate(self.metainfo['classes'])}
        for name, text in zip(names, found, strict=True):
            if text not in known:
                raise UserError(
                    f'{name} is of class {text!r}, which is none of the classes{suggest(text, list(known))}'
                )
        return np.array([known[text] for text in found])


def refuse_coco(layout, ann_file):
    """Refuse annotations of COCO's format, which hold no classes of images."""
    if layout == 'coco' or str(ann_file).lower().endswith('.json'):
        raise UserError('COCO has boxes, not classes of images: use folders, or a list of path and class.')


def check_share(name, share):
    """Refuse what is no share of images, under the name of its argument."""
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise UserError(f'{name}={share!r} is no share of the images, above 0 and up to 1.')


def chosen(labels, share, seed):
    """Places of a share of the images of each class, in order; those of a larger share hold them.

    Args:
        labels (Sequence[int]): (N,) classes.
        share (float): Of each class, rounded; one at least.
        seed (int): Of the choice.
    """
    kept, labels = [], np.asarray(labels)
    for number in np.unique(labels):
        own = np.flatnonzero(labels == number)
        order = np.random.default_rng([seed, number]).permutation(own)
        kept.append(order[: max(1, round(share * len(own)))])
    return np.sort(np.concatenate(kept))


def folder_of(name, split):
    """The folder below a split in which an image lies.

    Raises:
        UserError: If it lies beside the folders.
    """
    parts = PurePath(name).relative_to(split or '').parts
    if len(parts) < 2:
        raise UserError(f'{name} lies in no folder of a class: images are in <data_root>/<split>/<class>/.')
    return parts[0]


def class_folders(folder):
    """List the names of the folders within a folder that hold images, hidden ones left out, in alphabetical order."""
    folders = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith('.')]
    return sorted(path.name for path in folders if has_images(path))


def split_line(line):
    """Split a line of a list into path and class.

    Raises:
        UserError: If it has no class.
    """
    parts = line.rsplit(maxsplit=1)
    if len(parts) < 2:
        raise UserError(f'The line {line!r} of the list has no class: it is "path class".')
    return tuple(parts)


def find_conflicts(pairs):
    """Find images that a list has under several classes: {path: classes in the order of the list}.

    Args:
        pairs (list[tuple[str, str]]): Path and class of each line. ``./a.png`` is ``a.png``.
    """
    classes = {}
    for name, text in pairs:
        classes.setdefault(os.path.normpath(name), {})[text] = None
    return {name: list(found) for name, found in classes.items() if len(found) > 1}


def _refuse_two_classes(ann_file, pairs):
    if conflicts := find_conflicts(pairs):
        name, classes = next(iter(conflicts.items()))
        verb = 'is' if len(conflicts) == 1 else 'are'
        raise UserError(
            f'{format_count(len(conflicts), "image")} of {ann_file} {verb} listed under several classes, such as '
            f'{name} under {" and ".join(classes)}: an image has one class; keep one of the lines.'
        )
