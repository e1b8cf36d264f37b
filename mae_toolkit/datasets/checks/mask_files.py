"""Files of masks: their format by the header, and their size against that of the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from mae_toolkit.datasets.checks.images import SHOW_PROGRESS, THREADS, ImageHeader, read_image_header
from mae_toolkit.datasets.checks.report import SplitReport

TURNS = {2: 'mirrored', 3: 'turned by 180 degrees', 4: 'mirrored', 5: 'turned', 6: 'turned', 7: 'turned', 8: 'turned'}
# A step's options with which MMCV reads pixels as they lie in the file, and not as EXIF turns them.
UNTURNED_COLORS = ('unchanged', 'color_ignore_orientation', 'grayscale_ignore_orientation')
UNTURNED_BACKENDS = ('turbojpeg', 'tifffile')


@dataclass(frozen=True)
class MaskHeader:
    """What the header of a mask says.

    Attributes:
        path: The file.
        size: Height and width of its pixels; None if there is no file, or its header cannot be read.
        reason: Why there is no size.
        is_missing: Whether there is no such file.
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
        """Number of values per pixel."""
        return Image.getmodebands(self.mode) if self.mode else 1


def read_mask_headers(paths: Sequence[str]) -> list[MaskHeader]:
    """Read the headers of masks, in the given order; nothing is decoded, and nothing is raised for a bad file."""
    with ThreadPoolExecutor(THREADS) as pool:
        headers = pool.map(_look_at_mask, map(Path, paths), chunksize=64)
        return list(
            tqdm(headers, 'looking at masks', len(paths), leave=False, delay=1, disable=len(paths) < SHOW_PROGRESS)
        )


def _look_at_mask(path: Path) -> MaskHeader:
    header = read_image_header(path)
    if header.size is None:
        return MaskHeader(path, None, header.reason, header.is_missing)
    try:
        with Image.open(path) as picture:
            return MaskHeader(path, header.stored_size, '', False, picture.format or '', picture.mode)
    except OSError:  # a format that Pillow does not know
        return MaskHeader(path, header.stored_size)


def add_format_findings(report: SplitReport, masks: Sequence[MaskHeader]) -> list[bool]:
    """Report masks whose format cannot hold the number of a class per pixel.

    Returns:
        For each mask, whether its labels can be read.
    """
    good = []
    for mask in masks:
        good.append(mask.size is not None and mask.format != 'JPEG' and mask.channels == 1)
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
                remedy='save the number of the class of each pixel' + _hint_of_channels(mask),
                fatal=True,
            )
    return good


def _hint_of_channels(mask: MaskHeader) -> str:
    """Say that one channel holds the labels, if all colors of a mask are gray, or its gray has an alpha channel."""
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
    """Report masks of another size than their images as the pipeline reads these, and turns that sizes cannot show.

    Returns:
        For each mask, whether nothing speaks against reading it: one of the wrong size may be too large for that.
    """
    turns, fits = turns_images(dataset_cfg), []
    for image, mask in zip(images, masks, strict=True):
        fits.append(True)
        if image.size is None or mask.size is None:
            continue
        read, other = (image.size, image.stored_size) if turns else (image.stored_size, image.size)
        if mask.size != read:
            fits[-1], is_turned = False, mask.size == other
            _add_size_finding(report, image, mask, read, is_turned, turns, total=len(masks))
        elif turns and image.orientation in TURNS and image.size == image.stored_size:
            report.add(
                'images are turned or mirrored by their EXIF orientation in reading, but masks are not, which sizes '
                'cannot show',
                f'{image.path} is {TURNS[image.orientation]}',
                total=len(masks),
                remedy=_remedy_of_turn(),
            )
    return fits


def _add_size_finding(
    report: SplitReport,
    image: ImageHeader,
    mask: MaskHeader,
    read: tuple[int, int],
    is_turned: bool,
    turns: bool,
    total: int,
) -> None:
    sizes = f'{mask.path} has {mask.size[0]} x {mask.size[1]} pixels, and its image {image.path} {read[0]} x {read[1]}'
    if is_turned:
        report.add(
            'masks do not fit the image, which is turned by its EXIF orientation in reading'
            if turns
            else 'masks do not fit the image, which is not turned by its EXIF orientation in reading',
            sizes,
            total=total,
            remedy=_remedy_of_turn() if turns else 'leave out color_type and imdecode_backend of LoadImageFromFile',
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


def _remedy_of_turn() -> str:
    return (
        'if the masks fit the pixels as they lie in the files, let LoadImageFromFile have '
        "color_type='color_ignore_orientation', else save the images turned, without EXIF"
    )


def turns_images(dataset_cfg: Mapping) -> bool:
    """Whether the pipeline of a dataset turns images as their EXIF orientation asks, as MMCV does unless it is kept."""
    for step in dataset_cfg.get('pipeline') or ():
        if isinstance(step, Mapping) and str(step.get('type')).endswith('LoadImageFromFile'):
            kept = step.get('color_type') in UNTURNED_COLORS or step.get('imdecode_backend') in UNTURNED_BACKENDS
            return not kept
    return True
