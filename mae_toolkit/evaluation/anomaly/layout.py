"""Folders of normal and of defective images: the layout of MVTec AD, any folder of normal images, lists of some."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mae_toolkit.datasets.image_files import contains_images, list_images
from mae_toolkit.datasets.image_io import BrokenImageError, read_image
from mae_toolkit.errors import UserError
from mae_toolkit.printing import format_count, some

Box = tuple[float, float, float, float]  # left, top, right, bottom
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
        boxes: Its defects as (left, top, right, bottom) in pixels, in place of a mask.
    """

    path: Path
    category: str
    kind: str
    mask: Path | None
    boxes: tuple[Box, ...] = ()

    @property
    def is_defective(self) -> bool:
        """Return whether the image shows a defect."""
        return self.kind != GOOD

    @property
    def is_located(self) -> bool:
        """Return whether it is known where its defects are."""
        return self.mask is not None or bool(self.boxes)


def list_normal(folders: str | Path | Sequence[str | Path], names: str | Path | None = None) -> list[NormalImages]:
    """List normal images: of ``<category>/train/good``, of a folder of such categories, or of any folder.

    Args:
        folders: A folder, or several that go into one model.
        names: Text file or COCO's JSON file that names the images of the one folder that are used, by their paths
            within it; all of it if None.

    Returns:
        The images of each category.

    Raises:
        UserError: If a folder is missing, has no normal images, or has other folders beside ``train/good``; or it does
            not have the images that a list names.
    """
    given = [folders] if isinstance(folders, str | Path) else list(folders)
    if names is not None:
        if len(given) != 1:
            raise UserError(
                f'{names} lists the normal images of one folder, and {format_count(len(given), "folder")} are given: '
                'name the one that its paths are relative to.'
            )
        return [NormalImages(Path(given[0]).resolve().name, tuple(list_named(given[0], names)))]
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


def list_named(folder: str | Path, names: str | Path | None = None) -> list[Path]:
    """List the images of a folder that a text file or COCO's JSON file names, each once; all of it without one.

    Args:
        folder: The folder.
        names: The file, with the paths of images within the folder.

    Raises:
        UserError: If there is no such folder or file, or the folder does not have an image that the file names.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UserError(f'There is no folder {root} of normal images.')
    if names is not None and not Path(names).is_file():
        raise UserError(f'There is no file {names}, which should name images of {root}.')
    listed = list(dict.fromkeys(list_images(root, None if names is None else Path(names).resolve())))
    missing = [] if names is None else [name for name in listed if not (root / name).is_file()]
    if missing:
        raise UserError(
            f'{root} lacks {format_count(len(missing), "image")} of the {len(listed)} that {names} names '
            f'({some(missing, 3)}): name the folder that its paths are relative to.'
        )
    return [root / name for name in listed]


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
        return fill_boxes(image.boxes, size)
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


def fill_boxes(boxes: Sequence[Box], size: tuple[int, int]) -> np.ndarray:
    """Fill boxes: bool (H, W), True for every pixel that one of them touches."""
    mask = np.zeros(size, bool)
    for left, top, right, bottom in boxes:
        mask[math.floor(top) : math.ceil(bottom), math.floor(left) : math.ceil(right)] = True
    return mask


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
        _refuse_defects(folder)
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


def _refuse_defects(folder: Path) -> None:
    """Refuse a folder with 'good' and others, which is a split of MVTec AD: the others hold defects."""
    others = [one.name for one in _subfolders(folder) if one.name != GOOD and contains_images(one)]
    if (folder / GOOD).is_dir() and others:
        raise UserError(
            f'{folder} holds the folder {some(others)} beside {GOOD!r}: a detector of anomalies is fitted on normal '
            f'images alone; name {folder / GOOD}.'
        )


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
