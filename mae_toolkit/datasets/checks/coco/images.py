"""Check of the images of an annotation file: ids, names, sizes, and the files themselves."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from mae_toolkit.datasets.checks.coco.ids import find_repeated, is_id
from mae_toolkit.datasets.checks.coco.settings import CocoSettings
from mae_toolkit.datasets.checks.report import SplitReport
from mae_toolkit.datasets.image_headers import ImageHeader, read_image_headers


@dataclass
class CocoImages:
    """The images of an annotation file, in the order of the file.

    Attributes:
        names: File names, or ``images[i]`` for an image without one.
        sizes: Height and width (N, 2); NaN if the file gives no valid size.
        ids: The ids.
        rows: Index of each image by its id.
    """

    names: list[str]
    sizes: np.ndarray
    ids: list[Any] = field(default_factory=list)
    rows: dict[Any, int] = field(default_factory=dict)


def check_image_fields(images: list[dict[str, Any]], settings: CocoSettings, report: SplitReport) -> CocoImages:
    """Check the ids, names and sizes that a file gives to its images.

    Args:
        images: The images of the file.
        settings: What the config says.
        report: Receives the findings.
    """
    ids = [image.get('id') for image in images]
    names: list[Any] = [image.get('file_name') for image in images]
    has_name = np.array([_is_file_name(name) for name in names], bool)
    result = CocoImages([name if has_name[i] else f'images[{i}]' for i, name in enumerate(names)], _sizes(images), ids)

    def record(reason: str, wrong: np.ndarray, remedy: str, fatal: bool = True) -> None:
        report.add_many(reason, wrong, lambda i: f'{result.names[i]}, id {ids[i]!r}', remedy=remedy, fatal=fatal)

    if not settings.has_own_loading:  # LVIS has addresses in the place of file names
        record('images have no "file_name"', ~has_name, 'give each the path of its file')
    has_id = np.array([is_id(number) for number in ids], bool)
    record('images have no whole number as "id"', ~has_id, 'number them')
    record('images have the id of another', find_repeated(ids), 'number them')
    lacks_size = np.array(['height' not in image or 'width' not in image for image in images], bool)
    record('images have no "width" or "height"', lacks_size, 'write the sizes of the images into the file')
    wrong_size = np.isnan(result.sizes).any(1) & ~lacks_size
    record('images have a "width" or "height" that is not a whole number above 0', wrong_size, 'write them as numbers')
    paths = [os.path.normpath(name.replace('\\', '/')) for name in result.names]
    record(
        'images are the file of another', find_repeated(paths) & has_name, 'keep one entry of each file', fatal=False
    )
    result.rows = {number: i for i, number in enumerate(ids) if has_id[i]}
    return result


def _is_file_name(name: Any) -> bool:
    """Return whether a value can be a file name, without zero bytes and halves of characters, which JSON can hold."""
    if not isinstance(name, str) or not name or '\0' in name:
        return False
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return True


def check_image_files(
    images: CocoImages, used: np.ndarray, settings: CocoSettings, report: SplitReport
) -> list[ImageHeader | None]:
    """Check the files of the images that are used.

    Args:
        images: All images.
        used: Whether each image is used (N,).
        settings: What the config says.
        report: Receives the findings.

    Returns:
        Headers of the images; None for those that are not used.
    """
    headers: list[ImageHeader | None] = [None] * len(images.names)
    where = [int(i) for i in np.flatnonzero(used)]
    headers_of_used = read_image_headers([settings.image_folder / images.names[i] for i in where])
    for i, header in zip(where, headers_of_used, strict=True):
        headers[i] = header
    _report_files(images, headers_of_used, where, settings, report)
    return headers


def _sizes(images: list[dict[str, Any]]) -> np.ndarray:
    """Return height and width (N, 2), NaN where one is not a whole number above 0."""
    values: list[list[Any]] = [[image.get('height'), image.get('width')] for image in images]
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
    remedy = 'fix or remove them; training skips them' if settings.is_training else 'fix or remove them'
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
    """Return how the name of a missing file is probably spelled, as a remedy; empty if no file is similar."""
    if '\\' in str(path) and Path(str(path).replace('\\', '/')).is_file():
        return 'write "/" for "\\" in the file names'
    try:
        others = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    except OSError:
        return ''
    names = {path.name.casefold(), path.name.strip().casefold(), unquote(path.name).casefold()}
    same = [name for name in others if name.casefold() in names]
    same += [name for name in others if Path(name).stem == path.stem and name not in same]
    return f'the folder has {same[0]} for {path.name}, so write the names as they are there' if same else ''
