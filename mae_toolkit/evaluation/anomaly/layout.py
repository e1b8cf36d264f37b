"""Folders of normal and of defective images: the layout of MVTec AD, and any folder of normal images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mae_toolkit.datasets.image_files import contains_images, list_images
from mae_toolkit.datasets.image_io import BrokenImageError, read_image
from mae_toolkit.errors import UserError
from mae_toolkit.printing import some

TRAIN, TEST, TRUTH, GOOD = 'train', 'test', 'ground_truth', 'good'
MASK_ENDS = ('_mask', '')  # behind the name of an image in the name of its mask


@dataclass(frozen=True)
class NormalImages:
    """Normal images of one category.

    Attributes:
        category: Its name; that of the folder.
        paths: The files, sorted.
    """

    category: str
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class LabeledImage:
    """An image whose label is known.

    Attributes:
        path: The file.
        category: Name of its category.
        kind: Name of its folder: ``'good'``, or that of the defect.
        mask: File of its mask; None if it is normal, or nobody has drawn its defects.
    """

    path: Path
    category: str
    kind: str
    mask: Path | None

    @property
    def is_defective(self) -> bool:
        """Return whether the image shows a defect."""
        return self.kind != GOOD


def list_normal(folders: str | Path | Sequence[str | Path]) -> list[NormalImages]:
    """List normal images: of ``<category>/train/good``, of a folder of such categories, or of any folder.

    Args:
        folders: A folder, or several that go into one model.

    Returns:
        The images of each category.

    Raises:
        UserError: If a folder is missing, has no normal images, or has other folders beside ``train/good``.
    """
    given = [folders] if isinstance(folders, str | Path) else list(folders)
    found = [images for folder in given for images in _list_normal(Path(folder))]
    if not found:
        raise UserError('There are no normal images: name a folder of them.')
    return found


def list_tested(folder: str | Path) -> list[LabeledImage]:
    """List the images of ``<category>/test``, of one category or of a folder of categories, with their masks.

    Raises:
        UserError: If there is no such folder, it has no images, or a mask is missing beside others of its defect.
    """
    root = Path(folder)
    roots = [root] if (root / TEST).is_dir() else [one for one in _subfolders(root) if (one / TEST).is_dir()]
    if not roots:
        raise UserError(
            f'{root} has no folder {TEST!r}: expected is the layout of MVTec AD, {TEST}/{GOOD}, {TEST}/<defect> and '
            f'{TRUTH}/<defect>.'
        )
    return [image for one in roots for image in _list_category(one)]


def read_mask(image: LabeledImage, size: tuple[int, int]) -> np.ndarray:
    """Read where the defects of an image are.

    Args:
        image: The image.
        size: Height and width of the image.

    Returns:
        Bool (H, W), all False for a normal image.

    Raises:
        UserError: If the mask cannot be read, or has another size than the image.
    """
    if image.mask is None:
        return np.zeros(size, bool)
    try:
        mask = read_image(image.mask)
    except BrokenImageError as error:
        raise UserError(f'The mask {image.mask} cannot be read: {error.reason}.') from None
    if mask.shape[:2] != tuple(size):
        raise UserError(
            f'The mask {image.mask} has {mask.shape[0]} x {mask.shape[1]} pixels, and its image {image.path} '
            f'{size[0]} x {size[1]}: masks must be drawn on the images themselves.'
        )
    mask = mask[..., :-1] if mask.shape[-1] in (2, 4) else mask  # the last is alpha
    return np.asarray(mask.any(-1))


def _list_normal(folder: Path) -> list[NormalImages]:
    if not folder.is_dir():
        raise UserError(f'There is no folder {folder} of normal images.')
    train = folder / TRAIN
    if not train.is_dir():
        categories = [one for one in _subfolders(folder) if (one / TRAIN).is_dir()]
        if categories:
            return [images for one in categories for images in _list_normal(one)]
        if (folder / TEST).is_dir() or (folder / TRUTH).is_dir():
            raise UserError(f'{folder} has no folder {TRAIN}/{GOOD}, which holds the normal images.')
        return [NormalImages(folder.resolve().name, _list(folder))]
    others = [one.name for one in _subfolders(train) if one.name != GOOD and contains_images(one)]
    if others:
        raise UserError(
            f'{train} holds the folder {some(others)} beside {GOOD!r}: a detector of anomalies is fitted on normal '
            f'images alone; move it to {folder / TEST}.'
        )
    if not (train / GOOD).is_dir():
        raise UserError(f'{train} has no folder {GOOD!r}, which holds the normal images.')
    return [NormalImages(folder.resolve().name, _list(train / GOOD))]


def _list_category(root: Path) -> list[LabeledImage]:
    found = [image for kind in _subfolders(root / TEST) for image in _list_kind(root, kind)]
    if not found:
        raise UserError(f'{root / TEST} has no images in folders: expected are {GOOD!r} and one for each defect.')
    return found


def _list_kind(root: Path, folder: Path) -> list[LabeledImage]:
    paths, kind, category = _list(folder, least=0), folder.name, root.resolve().name
    masks = {path: _find_mask(root / TRUTH / kind, path) for path in paths if kind != GOOD}
    missing = [path.name for path, mask in masks.items() if mask is None]
    if (root / TRUTH / kind).is_dir() and missing:
        raise UserError(f'{root / TRUTH / kind} has no mask of {some(missing)}: it is named like 000_mask.png.')
    return [LabeledImage(path, category, kind, masks.get(path)) for path in paths]


def _find_mask(folder: Path, image: Path) -> Path | None:
    for end in MASK_ENDS:
        for suffix in ('.png', image.suffix, '.bmp', '.tif', '.tiff'):
            if (path := folder / f'{image.stem}{end}{suffix}').is_file():
                return path
    return None


def _subfolders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(one for one in folder.iterdir() if one.is_dir() and not one.name.startswith('.'))


def _list(folder: Path, least: int = 1) -> tuple[Path, ...]:
    if not least and not contains_images(folder):
        return ()
    return tuple(folder / name for name in list_images(folder))
