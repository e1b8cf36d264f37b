"""Check of the image sizes in an annotation file against those of the image files, with EXIF orientation."""

from __future__ import annotations

import numpy as np

from mae_toolkit.datasets.checks.coco.images import CocoImages
from mae_toolkit.datasets.checks.coco.settings import CocoSettings
from mae_toolkit.datasets.checks.report import SplitReport
from mae_toolkit.datasets.image_headers import ImageHeader

IGNORE_ORIENTATION = "set color_type='color_ignore_orientation' in every LoadImageFromFile, or save the images rotated"
APPLY_ORIENTATION = 'leave color_type of every LoadImageFromFile at its default, or write the sizes before rotation'
TOLERANCE = 1  # pixels by which a size may be rounded


def check_sizes(
    images: CocoImages, headers: list[ImageHeader | None], settings: CocoSettings, report: SplitReport
) -> None:
    """Compare the sizes in the file with those of the images as they will be read, and explain the differences.

    ``images.sizes`` is changed in place to the sizes that will be read, and to NaN where they differ from the file, as
    boxes cannot be checked there.

    Args:
        images: The images of the file.
        headers: Header of each image file; None for images that are not used.
        settings: What the config says.
        report: Receives the findings.
    """
    oriented = _array([header.size if header else None for header in headers])
    stored = _array([header.stored_size if header else None for header in headers])
    written = images.sizes.copy()
    read, other = (stored, oriented) if settings.applies_orientation is False else (oriented, stored)
    if settings.applies_orientation is None:  # an unknown loader: either may be right
        read = np.where((written == stored).all(1, keepdims=True), stored, oriented)

    def describe(i: int) -> str:
        sizes = [' x '.join(str(int(side)) for side in size[i][::-1]) for size in (read, written)]
        return f'{images.names[i]}, id {images.ids[i]!r}: {sizes[0]} pixels, in the file {sizes[1]}'

    differs = _distance(written, read) > TOLERANCE
    by_exif = differs & (_distance(written, other) <= TOLERANCE)
    swapped = differs & ~by_exif & (_distance(written, read[:, ::-1]) <= TOLERANCE)
    exif = 'images are rotated by their EXIF orientation, and the file gives the sizes before that'
    remedy = IGNORE_ORIENTATION
    if settings.applies_orientation is False:
        exif = 'images are not rotated by their EXIF orientation, for which the file gives the sizes'
        remedy = APPLY_ORIENTATION
    report.add_many(exif, by_exif, describe, remedy=remedy, fatal=True)
    reason = 'images have their width and height exchanged in the file'
    remedy = 'exchange them, and check whether the boxes fit the images'
    report.add_many(reason, swapped, describe, remedy=remedy, fatal=True)
    reason = 'images have another size than the file says'
    remedy = 'annotate the images that are read, or scale the annotations with them'
    report.add_many(reason, differs & ~by_exif & ~swapped, describe, remedy=remedy, fatal=True)
    reason = 'images differ by one pixel from the size in the file'
    report.add_many(reason, _distance(written, read) == TOLERANCE, describe, remedy='write their real sizes')
    if settings.applies_orientation is not False and not by_exif.any():
        _report_undecided(images, headers, report)
    images.sizes[:] = np.where(np.isnan(read), written, read)
    images.sizes[differs] = np.nan


def _array(sizes: list[tuple[int, int] | None]) -> np.ndarray:
    return np.array([size or (np.nan, np.nan) for size in sizes], float).reshape(-1, 2)


def _distance(sizes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the larger difference of the two sides (N,); NaN, for which no comparison holds, if one is not known."""
    return np.abs(sizes - others).max(1, initial=0) if len(sizes) else np.zeros(0)


def _report_undecided(images: CocoImages, headers: list[ImageHeader | None], report: SplitReport) -> None:
    """Warn of EXIF orientations that keep the size, unless other images show that the file considers them."""
    sizes = [header.size if header else None for header in headers]
    orientations = [header.orientation if header and header.size else 1 for header in headers]
    is_oriented = np.array([orientation > 1 for orientation in orientations], bool)
    if any(
        orientation >= 5 and size and size[0] != size[1] for orientation, size in zip(orientations, sizes, strict=True)
    ):
        return
    report.add_many(
        'images are rotated or mirrored by their EXIF orientation, which leaves their size as it is',
        is_oriented,
        lambda i: f'{images.names[i]}, id {images.ids[i]!r}',
        remedy='make sure that the boxes are those of the rotated images',
    )
