"""Sizes of the images in an annotation file against those of the pictures, EXIF orientation considered."""

from __future__ import annotations

import numpy as np

from mae_toolkit.datasets.checks.coco.images import CocoImages
from mae_toolkit.datasets.checks.coco.settings import CocoSettings
from mae_toolkit.datasets.checks.images import ImageHeader
from mae_toolkit.datasets.checks.report import SplitReport

UNTURNED = "set color_type='color_ignore_orientation' in every LoadImageFromFile, or save the images turned"
TURNED = 'leave color_type of every LoadImageFromFile at its default, or write the sizes of the unturned images'
SAME = 1  # pixels by which a size may be rounded


def check_sizes(
    images: CocoImages, headers: list[ImageHeader | None], settings: CocoSettings, report: SplitReport
) -> None:
    """Compare the sizes in the file with those of the images as they will be read, and say what explains a difference.

    In place, the sizes that will be read replace those of the file, and become NaN where the two differ, as boxes
    cannot be judged there.
    """
    turned = _array([header and header.size for header in headers])
    stored = _array([header and header.stored_size for header in headers])
    written = images.sizes.copy()
    read, other = (stored, turned) if settings.turns_images is False else (turned, stored)
    if settings.turns_images is None:  # an unknown loader: either may be right
        read = np.where((written == stored).all(1, keepdims=True), stored, turned)

    def describe(i: int) -> str:
        sizes = [' x '.join(str(int(side)) for side in size[i][::-1]) for size in (read, written)]
        return f'{images.names[i]}, id {images.ids[i]!r}: {sizes[0]} pixels, in the file {sizes[1]}'

    differs = _distance(written, read) > SAME
    by_exif = differs & (_distance(written, other) <= SAME)
    swapped = differs & ~by_exif & (_distance(written, read[:, ::-1]) <= SAME)
    exif, remedy = 'images are turned by their EXIF orientation, and the file gives the sizes before that', UNTURNED
    if settings.turns_images is False:
        exif, remedy = 'images are not turned by their EXIF orientation, for which the file gives the sizes', TURNED
    report.add_many(exif, by_exif, describe, remedy=remedy, fatal=True)
    reason = 'images have their width and height exchanged in the file'
    remedy = 'exchange them, and look whether the boxes fit the images'
    report.add_many(reason, swapped, describe, remedy=remedy, fatal=True)
    reason = 'images have another size than the file says'
    remedy = 'annotate the images that are read, or scale the annotations with them'
    report.add_many(reason, differs & ~by_exif & ~swapped, describe, remedy=remedy, fatal=True)
    reason = 'images differ by one pixel from the size in the file'
    report.add_many(reason, _distance(written, read) == SAME, describe, remedy='write their real sizes')
    if settings.turns_images is not False and not by_exif.any():
        _report_undecided(images, headers, report)
    images.sizes[:] = np.where(np.isnan(read), written, read)
    images.sizes[differs] = np.nan


def _array(sizes: list[tuple[int, int] | None]) -> np.ndarray:
    return np.array([size or (np.nan, np.nan) for size in sizes], float).reshape(-1, 2)


def _distance(sizes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Give the larger difference of the two sides; NaN where one is not known, which no comparison holds for."""
    return np.abs(sizes - others).max(1, initial=0) if len(sizes) else np.zeros(0)


def _report_undecided(images: CocoImages, headers: list[ImageHeader | None], report: SplitReport) -> None:
    """Warn of EXIF orientations that leave the size as it is, unless other images show that the file knows of them."""
    known = [header if header is not None and header.size else None for header in headers]
    is_turned = np.array([header is not None and header.orientation > 1 for header in known], bool)
    shows = [header is not None and header.orientation >= 5 and len(set(header.size)) == 2 for header in known]
    if any(shows):
        return
    report.add_many(
        'images are turned or mirrored by their EXIF orientation, which leaves their size as it is',
        is_turned,
        lambda i: f'{images.names[i]}, id {images.ids[i]!r}',
        remedy='make sure that the boxes are those of the turned images',
    )
