"""Read YOLO labels: a text file for each image, with a class and a box or polygon in each line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mae_toolkit.datasets.image_files import list_images
from mae_toolkit.datasets.labels.belonging import refuse_strangers
from mae_toolkit.datasets.labels.boxes import BoxLabels, LabeledImage, measure_images, to_object
from mae_toolkit.datasets.labels.splits import SPLITS, find_folder_splits, group_by_split, settle_splits
from mae_toolkit.datasets.labels.supervision import import_format
from mae_toolkit.datasets.text_files import read_label_file
from mae_toolkit.errors import UserError
from mae_toolkit.printing import format_count, printable, some

NAME_FILES = ('classes.txt', 'obj.names', '_darknet.labels', 'labels.txt')
NUMBER = r'[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?'
LINE = re.compile(rf'\s*\d+(\.0*)?(\s+{NUMBER}){{4,}}\s*')


def find_yaml(folder: Path) -> Path | None:
    """Find the file that names the classes and splits of a YOLO folder.

    Args:
        folder: The folder.
    """
    found = sorted([*folder.glob('*.yaml'), *folder.glob('*.yml')])
    named = [path for path in found if path.stem in ('data', 'dataset')]
    return next(iter([*named, *found]), None)


def is_label_file(path: Path) -> bool:
    """Return whether the first line of a text file is a class and a box; an empty file may be one.

    Args:
        path: The file.
    """
    if path.name in NAME_FILES:
        return False
    with path.open(encoding='utf-8', errors='replace') as file:
        first = file.readline()
    return LINE.fullmatch(first) is not None


def read_yolo(data: Path, images: Path | None = None) -> BoxLabels:
    """Read YOLO labels as Ultralytics does: text files beside the images, or in ``labels`` for images in ``images``.

    An image without a text file has no objects.

    Args:
        data: ``data.yaml``, or a folder, with one or with text files and images.
        images: Folder of the images, if it is another one.

    Raises:
        UserError: If there are no images, labels without images, classes beyond the list, or lines that are no boxes.
    """
    root = data if data.is_dir() else data.parent
    file = find_yaml(data) if data.is_dir() else data
    settings = _read_yaml(file) if file else {}
    listed = _list_by_yaml(root, settings) if file and images is None else {}
    splits = listed or _list_by_folders(images or root)
    pairs = {path: find_label(path, root) for paths in splits.values() for path in paths}
    _refuse_labels_without_images(root, images or root, pairs)
    splits, notes = settle_splits(splits)
    pairs = {path: pairs[path] for paths in splits.values() for path in paths}
    sizes, unreadable = measure_images(list(pairs))
    lines = {path: _read_lines(label) for path, label in pairs.items() if label and path in sizes}
    names, more = _find_names(root, settings, lines)
    _refuse_beyond(lines, pairs, names, file)
    pose = 'kpt_shape' in settings
    objects = {path: _read_objects(pairs[path], lines[path], sizes[path], names, pose) for path in lines}
    empty = sum(label is None for label in pairs.values())
    more += [f'{format_count(empty, "image")} without a text file: taken to have no objects'] if empty else []
    read = {
        split: [LabeledImage(path, sizes[path], objects.get(path, [])) for path in paths if path in sizes]
        for split, paths in splits.items()
    }
    return BoxLabels('YOLO', names, read, notes + unreadable + more)


def find_label(image: Path, root: Path) -> Path | None:
    """Find the text file of an image: beside it, or below ``labels`` instead of ``images``.

    Args:
        image: The image.
        root: Folder of the labels; one in it, or in its ``labels``, is found, too.
    """
    beside = image.with_suffix('.txt')
    parts = list(image.parts)
    places = [beside]
    if 'images' in parts[:-1]:
        last = len(parts) - 2 - parts[:-1][::-1].index('images')
        places.append(Path(*parts[:last], 'labels', *parts[last + 1 :]).with_suffix('.txt'))
    places += [root / 'labels' / beside.name, root / beside.name]
    return next((path for path in places if path.is_file()), None)


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        settings = yaml.safe_load(read_label_file(file))
    except yaml.YAMLError as error:
        raise UserError(f'{printable(file)} cannot be read: {" ".join(str(error).split())}.') from None
    if not isinstance(settings, dict):
        raise UserError(f'{printable(file)} names no classes: it needs names: [first, second] and folders of images.')
    return settings


def _list_by_yaml(root: Path, settings: Mapping[str, Any]) -> dict[str, list[Path]]:
    """List the images of the splits that a file names."""
    base = root / str(settings.get('path') or '.')
    base = base if base.is_dir() else root
    splits = {}
    for split in SPLITS:
        entries = settings.get(split) or (settings.get('valid') if split == 'val' else None)
        if entries:
            places = [_find_place(base, str(entry)) for entry in (entries if isinstance(entries, list) else [entries])]
            splits[split] = [path for place in places for path in _list_place(place)]
    return splits


def _find_place(base: Path, entry: str) -> Path:
    """Find what an entry names; exports often have ``../train/images`` for a folder beside the file."""
    tried = [base / entry, base / re.sub(r'^(\.\./)+', '', entry)]
    for place in tried:
        if place.exists():
            return place.resolve()
    raise UserError(f'There is no folder {tried[0]}, which the YAML file names: correct it, or give --images.')


def _list_place(place: Path) -> list[Path]:
    if place.is_dir():
        return [place / name for name in list_images(place)]
    lines = [line.strip() for line in read_label_file(place).splitlines()]
    return [(place.parent / line).resolve() for line in lines if line]


def _list_by_folders(root: Path) -> dict[str, list[Path]]:
    """List the images of a folder, by splits if its subfolders are called so."""
    root = root.resolve()
    names = [Path(name) for name in list_images(root)]
    return group_by_split([root / name for name in names], find_folder_splits(names))


def _refuse_labels_without_images(root: Path, images: Path, pairs: Mapping[Path, Path | None]) -> None:
    """Refuse text files with boxes in the folders of labels that belong to none of the images."""
    used = {label for label in pairs.values() if label}
    folders = {label.parent for label in used} or {root, root / 'labels'}
    labels = sorted(path for folder in folders for path in folder.glob('*.txt') if path in used or is_label_file(path))
    refuse_strangers(root, images, [label.name for label in labels], [label in used for label in labels], 'text files')


def _read_lines(label: Path) -> list[str]:
    return [line for line in label.read_text(encoding='utf-8', errors='replace').splitlines() if line.strip()]


def _find_names(
    root: Path, settings: Mapping[str, Any], lines: Mapping[Path, Sequence[str]]
) -> tuple[list[str], list[str]]:
    """Find the names of the classes in the YAML file or a list, or number them; and say so."""
    names = settings.get('names')
    if isinstance(names, dict):
        if sorted(map(int, names)) != list(range(len(names))):
            raise UserError(f'The names of the YAML file have the numbers {some(sorted(names))}: count from 0.')
        names = [names[key] for key in sorted(names, key=int)]
    if isinstance(names, list):
        return [str(name) for name in names], []
    for name in NAME_FILES:
        if (root / name).is_file():
            return [line.strip() for line in read_label_file(root / name).splitlines() if line.strip()], []
    numbers = [_class_number(line) for part in lines.values() for line in part]
    note = 'no data.yaml or classes.txt names the classes: they are called by their numbers'
    return [f'class {number}' for number in range(max(numbers, default=-1) + 1)], [note]


def _class_number(line: str) -> int:
    try:
        return int(float(line.split()[0]))
    except ValueError:
        return -1  # the reader of the line says what is wrong


def _is_numbered(line: str) -> bool:
    return re.match(r'-?\d', line.split()[0]) is not None


def _refuse_beyond(
    lines: Mapping[Path, Sequence[str]], pairs: Mapping[Path, Path | None], names: Sequence[str], file: Path | None
) -> None:
    numbered = [(pairs[p], _class_number(line)) for p, part in lines.items() for line in part if _is_numbered(line)]
    beyond = [(label, number) for label, number in numbered if number >= len(names) or number < 0]
    if beyond:
        files = list(dict.fromkeys(label.name for label, _ in beyond if label))
        numbers = sorted({number for _, number in beyond})
        raise UserError(
            f'{format_count(len(beyond), "object")} in {format_count(len(files), "text file")} ({some(files, 3)}) have '
            f'the class {some(numbers)}, and {file.name if file else "the list"} names {len(names)}, 0 to '
            f'{len(names) - 1} ({some(names)}): add the names, or correct the numbers.'
        )


def _read_objects(
    label: Path | None, lines: Sequence[str], size: tuple[int, int], names: Sequence[str], pose: bool
) -> list[dict[str, Any]]:
    """Convert the lines of one image to objects in pixels."""
    yolo, (height, width) = import_format('yolo'), size
    lines = [' '.join(line.split()[:5]) for line in lines] if pose else lines
    try:
        found = yolo.yolo_annotations_to_detections(list(lines), (width, height), with_masks=False)
    except ValueError as error:
        raise UserError(f'{printable(label)}: {" ".join(str(error).split())}') from None
    classes = found.class_id if found.class_id is not None else np.zeros(0, int)
    outlines = [_read_polygon(line, size) for line in lines]
    return [
        to_object(names[number], box, size, polygon)
        for number, box, polygon in zip(classes, found.xyxy, outlines, strict=True)
    ]


def _read_polygon(line: str, size: tuple[int, int]) -> list[float] | None:
    """Return the corners of a polygon in pixels, x and y in turn; None of a box, which may end with a score."""
    values = line.split()[1:]
    if len(values) < 6:
        return None
    corners = np.array(values[: len(values) // 2 * 2], float).reshape(-1, 2) * (size[1], size[0])
    return [round(float(value), 2) for value in corners.ravel()]
