"""Read masks: a PNG for each image, whose values or palette indices are classes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from mae_toolkit.datasets.image_files import list_images
from mae_toolkit.datasets.labels.belonging import refuse_strangers
from mae_toolkit.datasets.labels.mask_files import count_pixels, refuse_other_sizes
from mae_toolkit.datasets.labels.split_lists import find_listed, read_split_lists
from mae_toolkit.datasets.labels.splits import (
    complete_splits,
    find_folder_splits,
    find_rarest_class,
    group_by_split,
    refuse_untrained_classes,
    settle_splits,
)
from mae_toolkit.datasets.text_files import read_label_file
from mae_toolkit.errors import UserError
from mae_toolkit.printing import format_count, printable, some

IMAGES = re.compile(r'images?|imgs?|img_dir|jpegimages|photos|leftimg8bit', re.IGNORECASE)
MASKS = re.compile(
    r'masks?|labels?|annotations?|ann_dir|semantic|segmentations?|segmentationclass|seg_?maps?|gt|gtfine', re.IGNORECASE
)
NAME_FILES = ('classes.txt', 'labels.txt', 'labelmap.txt')
IGNORED = 255  # label of pixels that do not count, as MMSegmentation has it
THREADS = 8
MOST_UNNAMED = 64  # classes without names: more values than these are hardly classes


@dataclass(frozen=True)
class Pair:
    """An image and its mask, absolute paths.

    Attributes:
        image: The image.
        mask: The mask.
    """

    image: Path
    mask: Path

    @property
    def mask_suffix(self) -> str:
        """Return what the mask's name has behind that of its image: ``'_mask.png'``."""
        return self.mask.name[len(self.image.stem) :]


@dataclass
class MaskLabels:
    """Labels of a segmenter.

    Attributes:
        classes: Names of the classes, in the order of the values.
        values: Value in the files of each class.
        ignored: Values whose pixels do not count.
        splits: Pairs of each split; all under ``'all'`` if the data has no splits.
        pixels: Number of pixels of each value, by mask.
        sizes: Height and width of each mask.
        notes: What a user should know about how the labels were read.
        format: Name of the format that they were read from.
    """

    classes: list[str]
    values: list[int]
    ignored: list[int]
    splits: dict[str, list[Pair]]
    pixels: dict[Path, dict[int, int]]
    sizes: dict[Path, tuple[int, int]]
    notes: list[str] = field(default_factory=list)
    format: str = 'masks'

    @property
    def is_standard(self) -> bool:
        """Return whether the values are 0, 1, 2, … and 255, as MMSegmentation reads them."""
        return self.values == list(range(len(self.values))) and set(self.ignored) <= {IGNORED}

    def classes_of(self, pair: Pair) -> set[str]:
        """Return the names of the classes that a mask has."""
        names = dict(zip(self.values, self.classes, strict=True))
        return {names[value] for value in self.pixels[pair.mask] if value in names}


def holds_masks(data: Path) -> bool:
    """Return whether a folder has masks in a folder that is called so, such as ``masks`` or ``labels``.

    Args:
        data: The folder.
    """
    return data.is_dir() and any(_find_kind(Path(name)) == 'mask' for name in list_images(data))


def read_masks(data: Path, images: Path | None = None, ignore_index: int | None = None) -> MaskLabels:
    """Read masks in folders beside those of the images, or in a folder of their own.

    A mask has the name of its image, or begins with it (``photo_mask.png`` for ``photo.jpg``). Classes are named by
    ``classes.txt``, a name for each value from 0 on; else they are called by their values. Pixels of 255 do not count
    where there are two other values; of the values 0 and 255, 255 is a class.

    Args:
        data: The folder.
        images: Folder of the images, if it is another one; then ``data`` holds the masks.
        ignore_index: Value of pixels that do not count, if it is another one.

    Raises:
        UserError: If there are no masks, masks without images or of another size, or masks that are no labels.
    """
    if not data.is_dir():
        raise UserError(f'There is no folder {printable(data)}: give the folder that holds images and masks.')
    pictures, masks, root = _list_files(data, images)
    data = data.resolve()
    paired = _pair(pictures, masks, data, root)
    splits, unassigned = settle_splits(_list_splits(data, root, paired))
    pairs = [pair for part in splits.values() for pair in part]
    with ThreadPoolExecutor(THREADS) as pool:
        read = list(pool.map(count_pixels, [pair.mask for pair in pairs]))
    pixels = {pair.mask: counts for pair, (counts, _) in zip(pairs, read, strict=True)}
    sizes = {pair.mask: size for pair, (_, size) in zip(pairs, read, strict=True)}
    refuse_other_sizes(data, [pair.image for pair in pairs], sizes)
    total = sum((Counter(counts) for counts in pixels.values()), Counter())
    classes, values, ignored, notes = _find_classes(data, sorted(total), ignore_index)
    return MaskLabels(
        classes, values, ignored, splits, pixels, sizes, [*_note_unlabeled(pictures, paired), *unassigned, *notes]
    )


def _note_unlabeled(pictures: Sequence[Path], paired: Sequence[Pair]) -> list[str]:
    """Say which images have no mask; nothing if all have one."""
    labeled = {pair.image for pair in paired}
    names = [printable(path.name) for path in pictures if path not in labeled]
    return [f'{format_count(len(names), "image")} without a mask left out: {some(names, 3)}'] if names else []


def _list_files(data: Path, images: Path | None) -> tuple[list[Path], list[Path], Path]:
    """List images and masks, and say where the images are."""
    data = data.resolve()
    if images is not None:
        root = images.resolve()
        masks = [data / name for name in list_images(data)]
        return [root / name for name in list_images(root)], masks, root
    files = [data / name for name in list_images(data)]
    kinds = {path: _find_kind(path.relative_to(data)) for path in files}
    pictures = [path for path in files if kinds[path] == 'image']
    masks = [path for path in files if kinds[path] == 'mask']
    if not masks:
        folders = sorted({path.parent.name for path in files})
        raise UserError(
            f'{printable(data)} has no folder of masks ({some(folders)}): call the folders images and masks, or give '
            'the masks, and their images with --images.'
        )
    return pictures or [path for path in files if kinds[path] is None], masks, data


def _find_kind(path: Path) -> str | None:
    """Tell by the names of the folders whether a file is an image or a mask."""
    for part in reversed(path.parts[:-1]):
        if MASKS.fullmatch(part):
            return 'mask'
        if IMAGES.fullmatch(part):
            return 'image'
    return None


def _pair(pictures: Sequence[Path], masks: Sequence[Path], data: Path, root: Path) -> list[Pair]:
    """Pair masks with images by their names and the splits of their folders, all in the same way.

    Args:
        pictures: The images.
        masks: The masks.
        data: Folder of the masks.
        root: Folder of the images.
    """
    of_images = dict(zip(pictures, find_folder_splits([path.relative_to(root) for path in pictures]), strict=True))
    of_masks = find_folder_splits([path.relative_to(data) for path in masks])
    by_name: dict[str, list[Path]] = {}
    for picture in pictures:
        by_name.setdefault(picture.stem, []).append(picture)
    found = {mask: _find_image(mask, split, by_name, of_images) for mask, split in zip(masks, of_masks, strict=True)}
    refuse_strangers(masks[0].parent, root, [m.name for m in masks], [found[m] is not None for m in masks], 'masks')
    pairs = [Pair(image, mask) for mask, image in found.items() if image is not None]
    for kind, suffixes in (
        ('images', Counter(pair.image.suffix for pair in pairs)),
        ('masks', Counter(pair.mask_suffix for pair in pairs)),
    ):
        if len(suffixes) > 1:
            counts = ', '.join(f'{count} of {suffix}' for suffix, count in suffixes.most_common(4))
            raise UserError(
                f'The names of the {kind} end in different ways ({counts}): save all of them in one format.'
            )
    return pairs


def _find_image(
    mask: Path, split: str | None, by_name: Mapping[str, list[Path]], splits: Mapping[Path, str | None]
) -> Path | None:
    """Find the image of a mask: the one of its name, or the longest name that it begins with.

    Of several, it is one of the same split, and of these the one whose folders are called most like those of the mask.

    Args:
        mask: The mask.
        split: Split of the mask by its folders.
        by_name: Images by their names.
        splits: Split of each image by its folders.
    """
    stem = mask.stem
    names = [stem, *(stem[:end] for end in range(len(stem) - 1, 0, -1) if stem[end] in '_-.')]
    candidates = next((by_name[name] for name in names if name in by_name), [])
    folders = set(mask.parts[:-1])
    return max(candidates, key=lambda path: (splits[path] == split, len(folders & set(path.parts[:-1]))), default=None)


def _find_classes(
    data: Path, values: Sequence[int], ignore_index: int | None
) -> tuple[list[str], list[int], list[int], list[str]]:
    """Return names and values of the classes, the values that do not count, and notes."""
    names = _read_names(data)
    ignored = [ignore_index] if ignore_index is not None else []
    if ignore_index is None and IGNORED in values and len(values) > 2 and not (names and len(names) > IGNORED):
        ignored = [IGNORED]
    classes = [value for value in values if value not in ignored]
    most = IGNORED if names else MOST_UNNAMED
    if len(classes) > most:
        raise UserError(
            f'The masks of {printable(data)} have {len(classes):,} values ({some(classes)}), as if they were numbered '
            f'objects or gray levels: the value of a pixel has to be that of its class, with at most {most} classes'
            f'{"" if names else " unless classes.txt names more"}.'
        )
    if not names:
        names = ['background', 'object'] if classes in ([0, 1], [0, 255]) else [f'class {value}' for value in classes]
        return names, classes, ignored, [f'no classes.txt names the classes: they are called {some(names)}']
    if classes[-1] < len(names):
        return names, list(range(len(names))), ignored, []
    if len(classes) == len(names):
        return names, classes, ignored, [f'the values {some(classes)} are the classes in the order of their names']
    raise UserError(
        f'The masks have the values {some(classes)}, and {len(names)} classes have names ({some(names)}): name all of '
        'them, or the value that does not count with --ignore-index.'
    )


def _read_names(data: Path) -> list[str]:
    for folder in (data, data.parent):
        for name in NAME_FILES:
            if (folder / name).is_file():
                lines = read_label_file(folder / name).splitlines()
                return [line.split(':')[0].strip() for line in lines if line.strip() and not line.startswith('#')]
    return []


def _list_splits(data: Path, root: Path, pairs: Sequence[Pair]) -> dict[str, list[Pair]]:
    """List the pairs of each split: by lists in ``splits`` or ``ImageSets``, or by the folders of masks or images.

    Args:
        data: Folder of the masks.
        root: Folder of the images.
        pairs: The pairs.
    """
    for folder in (data / 'splits', data / 'ImageSets' / 'Segmentation'):
        if listed := read_split_lists([folder]):
            words = [find_listed(listed, pair.image) or find_listed(listed, pair.mask) for pair in pairs]
            return {split: [] for split in listed.values()} | group_by_split(pairs, words)
    of_masks = find_folder_splits([pair.mask.relative_to(data) for pair in pairs])
    of_images = find_folder_splits([pair.image.relative_to(root) for pair in pairs])
    return group_by_split(pairs, [first or second for first, second in zip(of_masks, of_images, strict=True)])


def prepare_masks(data: Path, images: Path | None = None, ignore_index: int | None = None, seed: int = 0) -> MaskLabels:
    """Read masks, split them where they have no splits, and refuse what cannot be trained on.

    Args:
        data: See :func:`read_masks`.
        images: See :func:`read_masks`.
        ignore_index: See :func:`read_masks`.
        seed: Seed of the split.

    Raises:
        UserError: In one sentence.
    """
    labels = read_masks(data, images, ignore_index)
    labels.splits, notes = complete_splits(
        labels.splits, lambda pairs: find_rarest_class([labels.classes_of(pair) for pair in pairs]), seed
    )
    labels.notes += notes
    seen = {split: set().union(*(labels.classes_of(pair) for pair in pairs)) for split, pairs in labels.splits.items()}
    nowhere = set(labels.classes).difference(*seen.values())
    refuse_untrained_classes(labels.classes, seen['train'] | nowhere, 'mark its pixels as not counting')
    if len(labels.classes) < 2:
        raise UserError(f'{printable(data)} has one class ({labels.classes[0]}): a segmenter needs two, as background.')
    return labels
