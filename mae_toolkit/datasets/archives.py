"""Sets of images in folders beside each other, each with its own way to say which belong to training."""

import os
import tarfile
from collections.abc import Iterable
from pathlib import Path

from mae_toolkit.datasets.image_files import list_images
from mae_toolkit.errors import UserError

ANNOTATIONS = 'annotations/train.json'


def unpack(archives: Iterable[str | Path], out: str | Path) -> None:
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


def list_training_images(root: str | Path, folders: Iterable[str] = ('images',)) -> list[str]:
    """List the images of the training splits of all sets below a folder.

    A set is a folder with ``annotations/train.json`` (COCO), or with a folder ``train``.

    Args:
        root: Folder of the sets.
        folders: Folders of a set with annotations in which their images lie, where it has them. Several hold different
            images under the same names: boards with defects in ``images``, and the same boards without in
            ``templates``.

    Returns:
        Names relative to ``root``.

    Raises:
        UserError: If there is no set.
    """
    names: list[str] = []
    root = Path(root)
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        if (folder / ANNOTATIONS).is_file():
            for kind in folders:
                listed = list_images(folder, ANNOTATIONS, split=kind)
                names += [os.path.join(folder.name, name) for name in listed if (folder / name).is_file()]
        elif (folder / 'train').is_dir():
            names += [os.path.join(folder.name, name) for name in list_images(folder, split='train')]
    if not names:
        raise UserError(f'{root} holds no folder with {ANNOTATIONS} or train/: unpack the sets there.')
    return names


def list_classes(root: str | Path, split: str) -> list[str]:
    """Name the class of every image of a split: the folder in which it lies, in the order of :func:`list_images`.

    Args:
        root: Holds ``<split>/<class>/*.jpg``.
        split: Such as ``'train'``.

    Raises:
        UserError: If the images lie in fewer than two folders.
    """
    classes = [Path(name).parent.name for name in list_images(root, split=split)]
    if len(set(classes)) < 2:
        raise UserError(f'The images of {Path(root) / split} lie in {len(set(classes))} folder: a class has its own.')
    return classes
