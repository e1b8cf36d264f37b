"""Find out in which format boxes are given, read them, split them, and write them as COCO files."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mae_toolkit.datasets.labels.boxes import BoxLabels, check_labels, drop_unused_classes, to_coco
from mae_toolkit.datasets.labels.coco import read_coco
from mae_toolkit.datasets.labels.splits import complete_splits, find_rarest_class, find_split
from mae_toolkit.datasets.labels.voc import read_voc
from mae_toolkit.datasets.labels.yolo import find_yaml, is_label_file, read_yolo
from mae_toolkit.errors import UserError
from mae_toolkit.files import atomic_write
from mae_toolkit.printing import printable, some

HEAD = 100_000  # bytes in which a JSON file of COCO names one of its lists


def read_boxes(data: str | Path, images: str | Path | None = None) -> BoxLabels:
    """Read boxes in whatever format they are in.

    Args:
        data: A COCO file; YOLO's ``data.yaml``; or a folder with COCO files, YOLO's text files or Pascal VOC's XML.
        images: Folder of the images, if it cannot be found near the labels.

    Raises:
        UserError: If there are no labels, or they cannot be read.
    """
    data, folder = Path(data), None if images is None else Path(images)
    if folder is not None and not folder.is_dir():
        raise UserError(f'There is no folder {printable(folder)}, which --images names.')
    if data.is_file():
        return _read_file(data, folder)
    if not data.is_dir():
        raise UserError(f'There is no file or folder {printable(data)}: give the labels.')
    if find_yaml(data) is not None:
        return read_yolo(data, folder)
    if files := _find_coco_files(data):
        return _read_coco_files(data, files, folder)
    if any(data.rglob('*.xml')):
        return read_voc(data, folder)
    if any(is_label_file(path) for path in data.rglob('*.txt')):
        return read_yolo(data, folder)
    kinds = Counter(path.suffix or 'no suffix' for path in data.rglob('*') if path.is_file())
    held = ', '.join(f'{count} of {suffix}' for suffix, count in kinds.most_common(4)) or 'no files'
    raise UserError(
        f'{printable(data)} holds no labels that are known, but {held}: give COCO JSON, YOLO text files or data.yaml, '
        'or Pascal VOC XML.'
    )


def _read_file(data: Path, images: Path | None) -> BoxLabels:
    if data.suffix.lower() in ('.yaml', '.yml'):
        return read_yolo(data, images)
    if data.suffix.lower() != '.json':
        raise UserError(f'{printable(data)} is none of the known kinds of labels: COCO JSON, data.yaml, or a folder.')
    siblings = _find_siblings(data)
    labels = read_coco([data, *siblings], images)
    return replace(labels, notes=[*labels.notes, *(f'{path.name} beside it is used, too' for path in siblings)])


def _find_siblings(data: Path) -> list[Path]:
    """Find the files of validation and test beside one of training, called like it: ``val.json`` for ``train.json``."""
    if find_split(data.name) != 'train':
        return []
    names = [data.with_name(data.name.replace('train', word)) for word in ('val', 'valid', 'validation', 'test')]
    found = {find_split(path.name): path for path in names if path.is_file() and path != data}
    return [found[split] for split in ('val', 'test') if split in found]


def _find_coco_files(data: Path) -> list[Path]:
    """Find the COCO files of a folder: in it, in ``annotations``, or one in the folder of each split."""
    for pattern in ('*.json', 'annotations/*.json', '*/*.json'):
        found = [path for path in sorted(data.glob(pattern)) if _looks_like_coco(path)]
        if found:
            return found
    return []


def _read_coco_files(data: Path, files: Sequence[Path], images: Path | None) -> BoxLabels:
    """Read the COCO files of a folder; beside one of training, those whose names tell no split are left out."""
    splits = {path: find_split(path.relative_to(data)) for path in files}
    if 'train' not in splits.values() or all(splits.values()):
        return read_coco(files, images)
    labels = read_coco([path for path, split in splits.items() if split], images)
    others = [printable(path.name) for path, split in splits.items() if not split]
    note = f'{len(others)} of the {len(files)} JSON files ({some(others, 3)}) left out, as their names tell no split'
    return replace(labels, notes=[*labels.notes, note])


def _looks_like_coco(path: Path) -> bool:
    with path.open('rb') as file:
        head = file.read(HEAD)
    return any(key in head for key in (b'"images"', b'"annotations"', b'"categories"'))


def split_boxes(labels: BoxLabels, seed: int = 0) -> BoxLabels:
    """Split labels that have no splits, or have no validation, at random by image.

    Images are spread by the rarest of their classes, so that training and validation have each class if they can.

    Args:
        labels: The labels.
        seed: Seed of the choice.
    """
    splits, notes = complete_splits(
        labels.splits, lambda images: find_rarest_class([image.classes for image in images]), seed
    )
    return replace(labels, splits=splits, notes=[*labels.notes, *notes])


def prepare_boxes(data: str | Path, images: str | Path | None = None, seed: int = 0) -> BoxLabels:
    """Read boxes, split them where they have no splits, and refuse what cannot be trained on.

    Args:
        data: See :func:`read_boxes`.
        images: See :func:`read_boxes`.
        seed: Seed of the split.

    Raises:
        UserError: In one sentence.
    """
    labels = read_boxes(data, images)
    if not labels.images:
        raise UserError(f'{printable(data)} has no image: the labels are empty.')
    labels = drop_unused_classes(split_boxes(labels, seed))
    check_labels(labels, Path(data))
    return labels


def write_coco(labels: BoxLabels, folder: Path) -> Path:
    """Write a COCO file for each split into a folder, ``train.json`` and so on.

    Args:
        labels: The labels.
        folder: The folder, which is made.

    Returns:
        The folder to which the names of the images are relative: the deepest one that holds all of them.
    """
    root = Path(os.path.commonpath([image.path.parent for image in labels.images]))
    folder.mkdir(parents=True, exist_ok=True)
    for split, images in labels.splits.items():
        atomic_write(folder / f'{split}.json', json.dumps(to_coco(images, labels.classes, root)))
    return root
