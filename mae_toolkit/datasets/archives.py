"""Sets of images in folders beside each other, each with its own way to say which belong to training."""

import os
import tarfile
from pathlib import Path

from mae_toolkit.datasets.image_files import list_images
from mae_toolkit.errors import UserError


def unpack(archives, out):
    """Unpack tar archives into a folder, each of which makes a folder of its own.

    Raises:
        UserError: If a file is no tar archive, or holds what would be written elsewhere.
    """
    for archive in archives:
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(out, filter='data')
        except (tarfile.TarError, EOFError) as error:
            raise UserError(f'{archive} cannot be unpacked ({error}): is it a whole tar archive?') from None


def train_images(root):
    """Names, relative to ``root``, of the images of the training splits of all sets below it.

    A set is a folder with ``annotations/train.json`` (COCO) beside ``images``, or with a folder ``train``. Where a
    folder ``templates`` holds images of the same names (DeepPCB's, without defects), they belong to training, too.

    Raises:
        UserError: If there is no such set.
    """
    names, root = [], Path(root)
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        if (folder / 'annotations' / 'train.json').is_file():
            for kind in ('images', 'templates'):
                listed = list_images(folder, 'annotations/train.json', split=kind)
                names += [os.path.join(folder.name, name) for name in listed if (folder / name).is_file()]
        elif (folder / 'train').is_dir():
            names += [os.path.join(folder.name, name) for name in list_images(folder, split='train')]
    if not names:
        raise UserError(f'{root} holds no folder with annotations/train.json or train/: unpack the sets there.')
    return names


def classes_of(root, split):
    """The class of every image of a split: the folder in which it lies, in the order of :func:`list_images`.

    Args:
        root (str | Path): Holds ``<split>/<class>/*.jpg``.
        split (str): Such as ``'train'``.

    Raises:
        UserError: If the images lie in fewer than two folders.
    """
    classes = [Path(name).parent.name for name in list_images(root, split=split)]
    if len(set(classes)) < 2:
        raise UserError(f'The images of {Path(root) / split} lie in {len(set(classes))} folder: a class has its own.')
    return classes
