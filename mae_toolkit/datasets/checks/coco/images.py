"""Images of an annotation file: ids, names, sizes, and the files themselves."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mae_toolkit.datasets.checks.coco.ids import find_repeated, is_id
from mae_toolkit.datasets.checks.coco.settings import CocoSettings
from mae_toolkit.datasets.checks.images import ImageHeader, look_at_images
from mae_toolkit.datasets.checks.report import SplitReport

UNTURNED = "set color_type='color_ignore_orientation' in every LoadImageFromFile, or save the images turned"
TURNED = 'leave color_type of every LoadImageFromFile at its default, or write the sizes of the unturned images'


@dataclass
class CocoImages:
    """The images of an annotation file, in its order.

    Attributes:
        names: File names, or what stands in their place.
        rows: Index of each image by its id.
        sizes: Height and width (N, 2); NaN where the file gives none that can be used.
        ids: The ids.
    """

    names: list[str]
    sizes: np.ndarray
    ids: list[Any] = field(default_factory=list)
    rows: dict[Any, int] = field(default_factory=dict)


def check_image_fields(images: list[dict[str, Any]], settings: CocoSettings, report: SplitReport) -> CocoImages:
    """Check ids, names and sizes that the file gives to its images."""
    ids = [image.get('id') for image in images]
    names = [image.get('file_name') for image in images]
    has_name = np.array([isinstance(name, str) and bool(name) for name in names], bool)
    found = CocoImages([name if has_name[i] else f'images[{i}]' for i, name in enumerate(names)], _sizes(images), ids)

    def record(reason: str, wrong: np.ndarray, remedy: str, fatal: bool = True) -> None:
        report.add_many(reason, wrong, lambda i: f'{found.names[i]}, id {ids[i]!r}', remedy=remedy, fatal=fatal)

    if not settings.has_own_loading:  # LVIS has addresses in the place of file names
        record('images have no "file_name"', ~has_name, 'give each the path of its file')
    has_id = np.array([is_id(number) for number in ids], bool)
    record('images have no whole number as "id"', ~has_id, 'number them')
    record('images have the id of another', find_repeated(ids), 'number them')
    lacks_size = np.array(['height' not in image or 'width' not in image for image in images], bool)
    record('images have no "width" or "height"', lacks_size, 'write the sizes of the images into the file')
    wrong_size = np.isnan(found.sizes).any(1) & ~lacks_size
    record('images have a "width" or "height" that is no whole number above 0', wrong_size, 'write them as numbers')
    paths = [os.path.normpath(name.replace('\\', '/')) for name in found.names]
    record(
        'images are the file of another', find_repeated(paths) & has_name, 'keep one entry of each file', fatal=False
    )
    found.rows = {number: i for i, number in enumerate(ids) if has_id[i]}
    return found


def check_image_files(
    images: CocoImages, used: np.ndarray, settings: CocoSettings, report: SplitReport
) -> list[ImageHeader | None]:
    """Look at the files of the images that are used, and compare their sizes with those of the annotation file.

    The sizes of the images as they will be read replace those of the file, in place.
    """
    headers: list[ImageHeader | None] = [None] * len(images.names)
    where = [int(i) for i in np.flatnonzero(used)]
    looked = look_at_images([settings.image_folder / images.names[i] for i in where])
    for i, header in zip(where, looked, strict=True):
        headers[i] = header
    _report_files(images, looked, where, settings, report)
    _compare_sizes(images, headers, settings, report)
    return headers


def _sizes(images: list[dict[str, Any]]) -> np.ndarray:
    """Give height and width, NaN where one is no whole number above 0."""
    values = [[image.get('height'), image.get('width')] for image in images]
    right = [[type(v) in (int, float) and 1 <= v < 2**31 and v == int(v) for v in pair] for pair in values]
    plain = [[v if ok else np.nan for v, ok in zip(*both, strict=True)] for both in zip(values, right, strict=True)]
    return np.array(plain, float).reshape(-1, 2)


def _report_files(
    images: CocoImages, headers: list[ImageHeader], where: list[int], settings: CocoSettings, report: SplitReport
) -> None:
    missing = np.array([header.is_missing for header in headers], bool)
    remedy = (
        f'set data_root and data_prefix to the folder that holds them; it was looked for in {settings.image_folder}'
    )
    if missing.any():
        hint = next(filter(None, (_similar_file(headers[i].path) for i in np.flatnonzero(missing)[:3])), '')
        remedy = hint or remedy
    report.add_many('images are missing', missing, lambda i: str(headers[i].path), remedy=remedy, fatal=True)
    broken = np.array([header.size is None and not header.is_missing for header in headers], bool)
    remedy = 'mend or remove them; training skips them' if settings.is_training else 'mend or remove them'
    report.add_many(
        'images cannot be read',
        broken,
        lambda i: f'{images.names[where[i]]}, id {images.ids[where[i]]!r}: {headers[i].reason}',
        remedy=remedy,
        fatal=not settings.is_training,
    )
    if settings.is_training and broken.any():
        report.left_out['images that cannot be read'] += int(broken.sum())


def _similar_file(path: Path) -> str:
    """Say how a missing file is written otherwise, or nothing."""
    if '\\' in str(path) and Path(str(path).replace('\\', '/')).is_file():
        return 'write "/" for "\\" in the file names'
    try:
        others = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    except OSError:
        return ''
    same = [name for name in others if name.casefold() == path.name.casefold()]
    same += [name for name in others if Path(name).stem == path.stem and name not in same]
    return f'the folder has {same[0]} for {path.name}, so write the names as they are there' if same else ''


def _compare_sizes(
    images: CocoImages, headers: list[ImageHeader | None], settings: CocoSettings, report: SplitReport
) -> None:
    """Compare sizes, and say what explains a difference; replace those of the file by those that will be read."""
    nothing = (np.nan, np.nan)
    turned = np.array([header.size if header and header.size else nothing for header in headers], float).reshape(-1, 2)
    stored = np.array([header.stored_size if header and header.size else nothing for header in headers], float).reshape(
        -1, 2
    )
    written = images.sizes.copy()
    read = stored if settings.turns_images is False else turned
    if settings.turns_images is None:  # unknown loaders: either may be right
        read = np.where((written == stored).all(1, keepdims=True), stored, turned)
    other = turned if settings.turns_images is False else stored
    known = ~np.isnan(read).any(1) & ~np.isnan(written).any(1)
    apart = np.abs(np.where(known[:, None], written - read, 0)).max(1, initial=0)

    def describe(i: int) -> str:
        sizes = [' x '.join(str(int(v)) for v in size[i][::-1]) for size in (read, written)]
        return f'{images.names[i]}, id {images.ids[i]!r}: {sizes[0]} pixels, in the file {sizes[1]}'

    differs = apart > 1
    by_exif = differs & (np.nan_to_num(np.abs(written - other), nan=2).max(1, initial=0) <= 1)
    swapped = differs & ~by_exif & (np.nan_to_num(np.abs(written - read[:, ::-1]), nan=2).max(1, initial=0) <= 1)
    if settings.turns_images is False:
        exif, remedy = 'images are not turned by their EXIF orientation, for which the file gives the sizes', TURNED
    else:
        exif, remedy = 'images are turned by their EXIF orientation, and the file gives the sizes before that', UNTURNED
    report.add_many(exif, by_exif, describe, remedy=remedy, fatal=True)
    report.add_many(
        'images have their width and height exchanged in the file',
        swapped,
        describe,
        remedy='exchange them, and look whether the boxes fit the images',
        fatal=True,
    )
    report.add_many(
        'images have another size than the file says',
        differs & ~by_exif & ~swapped,
        describe,
        remedy='annotate the images that are read, or scale the annotations with them',
        fatal=True,
    )
    report.add_many(
        'images differ by one pixel from the size in the file', apart == 1, describe, remedy='write their real sizes'
    )
    _report_undecided(images, headers, settings, report, by_exif)
    images.sizes[:] = np.where(np.isnan(read), written, read)


def _report_undecided(
    images: CocoImages,
    headers: list[ImageHeader | None],
    settings: CocoSettings,
    report: SplitReport,
    by_exif: np.ndarray,
) -> None:
    """Warn of EXIF orientations that leave the size as it is, unless other images show that the file knows of them."""
    shows = [header is not None and header.orientation >= 5 and len(set(header.size)) == 2 for header in headers]
    undecided = [
        header is not None and header.orientation > 1 and (header.orientation < 5 or len(set(header.size)) == 1)
        for header in headers
    ]
    if any(shows) or by_exif.any() or settings.turns_images is False:
        return
    report.add_many(
        'images are turned or mirrored by their EXIF orientation, which leaves their size as it is',
        np.array(undecided, bool),
        lambda i: f'{images.names[i]}, id {images.ids[i]!r}',
        remedy='make sure that the boxes are those of the turned images',
    )
