"""Read Pascal VOC's labels: an XML file for each image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from mae_toolkit.datasets.image_files import list_images
from mae_toolkit.datasets.image_headers import ImageHeader
from mae_toolkit.datasets.labels.belonging import refuse_strangers
from mae_toolkit.datasets.labels.boxes import BoxLabels, LabeledImage, read_headers, to_object
from mae_toolkit.datasets.labels.split_lists import find_listed, read_split_lists
from mae_toolkit.datasets.labels.splits import find_folder_splits, group_by_split, settle_splits
from mae_toolkit.datasets.labels.supervision import import_format
from mae_toolkit.errors import UserError
from mae_toolkit.printing import format_count, printable, some


def read_voc(data: Path, images: Path | None = None) -> BoxLabels:
    """Read XML files, beside the images or in a folder of their own, as in VOC's ``Annotations`` and ``JPEGImages``.

    Boxes are given in pixels that are counted from 1, whose last one is part of the object. Splits are those of
    ``ImageSets/Main``, or folders that are called so. An image without an XML file is not labeled, and left out.

    Args:
        data: The folder, at any depth.
        images: Folder of the images, if it is another one.

    Raises:
        UserError: If an XML file cannot be read, or has no image.
    """
    data = data.resolve()
    files = sorted(data.rglob('*.xml'))
    root = (images or data).resolve()
    pictures = [root / name for name in list_images(root)]
    found = {file: image for file, image in _match(files, pictures).items() if image is not None}
    refuse_strangers(data, root, [file.name for file in files], [file in found for file in files], 'XML files')
    unlabeled = len(pictures) - len(set(found.values()))
    notes = [f'{format_count(unlabeled, "image")} without an XML file: left out'] if unlabeled else []
    splits, unassigned = settle_splits(_list_splits(data, root, found))
    headers, unreadable = read_headers([found[file] for part in splits.values() for file in part])
    splits = {split: [file for file in part if found[file] in headers] for split, part in splits.items()}
    trees = {file: _parse(file) for part in splits.values() for file in part}
    names = sorted({item.findtext('name') or '' for tree in trees.values() for item in tree.iter('object')})
    read = {
        split: [_read_image(file, trees[file], headers[found[file]], names) for file in part]
        for split, part in splits.items()
    }
    return BoxLabels('Pascal VOC', names, read, notes + unassigned + unreadable + _describe_swapped(trees))


def _describe_swapped(trees: Mapping[Path, Any]) -> list[str]:
    """Say which boxes have xmin above xmax or ymin above ymax, which the reader swaps."""
    found = []
    for file, tree in trees.items():
        for box in tree.iter('bndbox'):
            x1, y1, x2, y2 = (box.findtext(side, '').strip() for side in ('xmin', 'ymin', 'xmax', 'ymax'))
            with suppress(ValueError):  # the reader of the box says what is no number
                found += [f'{printable(file.name)}: xmin {x1}, xmax {x2}'] if float(x1) > float(x2) else []
                found += [f'{printable(file.name)}: ymin {y1}, ymax {y2}'] if float(y1) > float(y2) else []
    if not found:
        return []
    count = format_count(len(found), 'pair of corners', 'pairs of corners')
    return [f'{count} in the wrong order ({some(found, 3)}) were swapped: look at these boxes']


def _match(files: Sequence[Path], pictures: Sequence[Path]) -> dict[Path, Path | None]:
    """Find the image of each XML file by its name: in the same folder, beside that folder, or anywhere."""
    by_stem: dict[str, list[Path]] = defaultdict(list)
    for picture in pictures:
        by_stem[picture.stem].append(picture)

    def distance(file: Path, picture: Path) -> int:
        return next((i for i in range(2) if file.parents[i] == picture.parents[i]), 2)

    return {file: min(by_stem[file.stem], key=lambda p: distance(file, p), default=None) for file in files}


def _list_splits(data: Path, root: Path, found: Mapping[Path, Path]) -> dict[str, list[Path]]:
    """List the files of each split: by lists in ``ImageSets/Main``, or by the folders of the files or of their images.

    Args:
        data: Folder of the files.
        root: Folder of the images.
        found: Image of each file.
    """
    if listed := read_split_lists(sorted(data.rglob('ImageSets/Main'))):
        words = [find_listed(listed, file) or find_listed(listed, image) for file, image in found.items()]
        return {split: [] for split in listed.values()} | group_by_split(found, words)
    of_files = find_folder_splits([file.relative_to(data) for file in found])
    of_images = find_folder_splits([image.relative_to(root) for image in found.values()])
    return group_by_split(found, [first or second for first, second in zip(of_files, of_images, strict=True)])


def _parse(file: Path) -> Any:
    from defusedxml.ElementTree import parse  # comes with supervision

    try:
        return parse(file).getroot()
    except Exception as error:  # of the parser, or of what it is defused against
        raise UserError(f'{printable(file)} is not XML ({" ".join(str(error).split())}).') from None


def _read_image(file: Path, tree: Any, header: ImageHeader, names: Sequence[str]) -> LabeledImage:
    voc = import_format('pascal_voc')
    size = header.size or (0, 0)
    written = tuple(int(float(tree.findtext(f'size/{side}') or 0)) for side in ('height', 'width'))
    # Boxes of an image that EXIF turns may be those before the turn; then the check of sizes says so.
    kept = header.stored_size if written == header.stored_size and header.stored_size else size
    for item in tree.findall('object'):
        for polygon in item.findall('polygon'):  # of which supervision would make a bitmap each
            item.remove(polygon)
    try:
        found, _ = voc.detections_from_xml_obj(tree, list(names), (size[1], size[0]))
    except ValueError as error:
        raise UserError(f'{printable(file)}: {" ".join(str(error).split())}') from None
    labels = found.class_id if found.class_id is not None else np.zeros(0, int)
    objects = [to_object(names[number], box, kept) for number, box in zip(labels, found.xyxy, strict=True)]
    return LabeledImage(header.path, kept, objects)
