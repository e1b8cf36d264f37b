"""Check of mask files: their format, by the header, and their size against that of the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from mae_toolkit.datasets.checks.report import SplitReport
from mae_toolkit.datasets.image_headers import SHOW_PROGRESS, THREADS, ImageHeader, read_image_header

# Effect of EXIF orientations.
ORIENTATIONS = {2: 'mirrored', 3: 'rotated by 180 degrees', 4: 'mirrored'} | dict.fromkeys((5, 6, 7, 8), 'rotated')
# Options of a loading step with which MMCV ignores EXIF orientation.
UNORIENTED_COLORS = ('unchanged', 'color_ignore_orientation', 'grayscale_ignore_orientation')
UNORIENTED_BACKENDS = ('turbojpeg', 'tifffile')


@dataclass(frozen=True)
class MaskHeader:
    """Size and format of a mask, as read from its header.

    Attributes:
        path: The file.
        size: Height and width as stored; None if the file is missing or its header cannot be read.
        reason: Why ``size`` is None.
        is_missing: Whether the file is missing.
        format: Pillow's name of its format, such as ``'PNG'``; empty if Pillow does not know it.
        mode: Pillow's name of its channels, such as ``'L'``.
    """

    path: Path
    size: tuple[int, int] | None
    reason: str = ''
    is_missing: bool = False
    format: str = ''
    mode: str = ''

    @property
    def channels(self) -> int:
        """Return the number of values per pixel."""
        return Image.getmodebands(self.mode) if self.mode else 1


def read_mask_headers(paths: Sequence[str]) -> list[MaskHeader]:
    """Read the headers of masks in the given order, without decoding them; a bad file has a ``reason``."""
    with ThreadPoolExecutor(THREADS) as pool:
        headers = pool.map(_read_mask_header, map(Path, paths), chunksize=64)
        return list(
            tqdm(headers, 'reading mask headers', len(paths), leave=False, delay=1, disable=len(paths) < SHOW_PROGRESS)
        )


def _read_mask_header(path: Path) -> MaskHeader:
    header = read_image_header(path)
    if header.size is None:
        return MaskHeader(path, None, header.reason, header.is_missing)
    try:
        with Image.open(path) as picture:
            return MaskHeader(path, header.stored_size, '', False, picture.format or '', picture.mode)
    except OSError:  # a format that Pillow does not know
        return MaskHeader(path, header.stored_size)


def add_format_findings(report: SplitReport, masks: Sequence[MaskHeader]) -> list[bool]:
    """Report masks whose format cannot store a class index per pixel.

    Args:
        report: Receives the findings.
        masks: Headers of the masks.

    Returns:
        For each mask, whether its labels can be read.
    """
    is_good = []
    for mask in masks:
        is_good.append(mask.size is not None and mask.format != 'JPEG' and mask.channels == 1)
        if mask.size is None:
            continue
        if mask.format == 'JPEG':
            report.add(
                'masks are compressed as JPEG, which alters labels',
                str(mask.path),
                total=len(masks),
                remedy='save them as PNGs from where they were drawn',
                fatal=True,
            )
        elif mask.channels > 1:
            report.add(
                'masks have colors or transparency',
                f'{mask.path} has {mask.channels} channels where one is expected, {mask.mode}',
                total=len(masks),
                remedy='save the class index of each pixel' + _hint_for_channels(mask),
                fatal=True,
            )
    return is_good


def _hint_for_channels(mask: MaskHeader) -> str:
    """Return the end of a remedy: which channel has the labels, if all colors of a mask are gray."""
    if mask.mode == 'LA':
        return ', which is the first channel'
    if mask.mode not in ('RGB', 'RGBA'):
        return ' in one channel'
    try:
        with Image.open(mask.path) as picture:
            red, green, blue = (picture.getchannel(i).tobytes() for i in range(3))
    except OSError:
        return ' in one channel'
    return ', which is any of its three equal channels' if red == green == blue else ' in one channel, not its color'


def add_size_findings(
    report: SplitReport, images: Sequence[ImageHeader], masks: Sequence[MaskHeader], dataset_cfg: Mapping
) -> list[bool]:
    """Report masks of another size than their images, and EXIF orientations of images that do not change the size.

    Args:
        report: Receives the findings.
        images: Headers of the images.
        masks: Headers of their masks.
        dataset_cfg: Config of the dataset, whose pipeline decides whether EXIF orientation is applied.

    Returns:
        For each mask, whether its size is that of the image, so that it can be read.
    """
    is_oriented, fits = applies_orientation(dataset_cfg), []
    for image, mask in zip(images, masks, strict=True):
        fits.append(True)
        if image.size is None or image.stored_size is None or mask.size is None:
            continue
        read, other = (image.size, image.stored_size) if is_oriented else (image.stored_size, image.size)
        if mask.size != read:
            fits[-1], is_swapped = False, mask.size == other
            _add_size_finding(report, image, mask, read, is_swapped, is_oriented, total=len(masks))
        elif is_oriented and image.orientation in ORIENTATIONS and image.size == image.stored_size:
            report.add(
                'images are rotated or mirrored by their EXIF orientation when they are read, but masks are not, which '
                'sizes cannot show',
                f'{image.path} is {ORIENTATIONS[image.orientation]}',
                total=len(masks),
                remedy=_remedy_for_orientation(),
            )
    return fits


def _add_size_finding(
    report: SplitReport,
    image: ImageHeader,
    mask: MaskHeader,
    read: tuple[int, int],
    is_swapped: bool,
    is_oriented: bool,
    total: int,
) -> None:
    height, width = mask.size or (0, 0)
    sizes = f'{mask.path} has {height} x {width} pixels, and its image {image.path} {read[0]} x {read[1]}'
    if is_swapped:
        report.add(
            'masks do not fit the image, which is rotated by its EXIF orientation when it is read'
            if is_oriented
            else 'masks do not fit the image, which is not rotated by its EXIF orientation when it is read',
            sizes,
            total=total,
            remedy=_remedy_for_orientation()
            if is_oriented
            else 'leave out color_type and imdecode_backend of LoadImageFromFile',
            fatal=True,
        )
        return
    report.add(
        'masks have another size than the image',
        sizes,
        total=total,
        remedy='a mask has a label for each pixel of its image',
        fatal=True,
    )


def _remedy_for_orientation() -> str:
    return (
        'if the masks fit the pixels as stored in the files, set '
        "color_type='color_ignore_orientation' in LoadImageFromFile, otherwise save the images rotated, without EXIF"
    )


def applies_orientation(dataset_cfg: Mapping) -> bool:
    """Return whether a dataset's pipeline applies EXIF orientation to images, as MMCV does by default."""
    for step in dataset_cfg.get('pipeline') or ():
        if isinstance(step, Mapping) and str(step.get('type')).endswith('LoadImageFromFile'):
            ignored = step.get('color_type') in UNORIENTED_COLORS or step.get('imdecode_backend') in UNORIENTED_BACKENDS
            return not ignored
    return True
