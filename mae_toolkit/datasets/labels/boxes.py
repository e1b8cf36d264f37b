"""Boxes and polygons of images, as they are read from any format: COCO's dicts by split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mae_toolkit.datasets.image_headers import ImageHeader, read_image_headers
from mae_toolkit.datasets.labels.splits import refuse_untrained_classes
from mae_toolkit.errors import UserError
from mae_toolkit.printing import format_count, printable, some


@dataclass
class LabeledImage:
    """An image with its objects.

    Attributes:
        path: The file, absolute.
        size: Height and width as the image is shown, that is after EXIF orientation.
        objects: COCO's annotations without ids: ``category`` (name of the class), ``bbox`` (left, top, width, height
            in pixels), ``area``, ``iscrowd``, and ``segmentation`` where there is a polygon.
    """

    path: Path
    size: tuple[int, int]
    objects: list[dict[str, Any]] = field(default_factory=list)

    @property
    def classes(self) -> set[str]:
        """Return the names of the classes that the image has."""
        return {item['category'] for item in self.objects}


@dataclass
class BoxLabels:
    """Labels of a detector: images with their objects, by split.

    Attributes:
        format: Name of the format that they were read from, for the log.
        classes: Names of the classes, in the order of their numbers.
        splits: Images of each split; all under ``'all'`` if the data has no splits.
        notes: What a user should know about how the labels were read.
    """

    format: str
    classes: list[str]
    splits: dict[str, list[LabeledImage]]
    notes: list[str] = field(default_factory=list)

    @property
    def images(self) -> list[LabeledImage]:
        """Return the images of all splits."""
        return [image for images in self.splits.values() for image in images]

    @property
    def has_masks(self) -> bool:
        """Return whether every object has an outline, as Mask R-CNN needs; the rectangles of some exports are none."""
        outlines = [item.get('segmentation') for image in self.images for item in image.objects]
        return bool(outlines) and all(outlines) and not all(map(_is_rectangle, outlines))


def to_coco(images: Sequence[LabeledImage], classes: Sequence[str], root: Path) -> dict[str, Any]:
    """Make the content of a COCO file.

    Images, categories and annotations are numbered from 1, as pycocotools never counts an annotation of number 0.

    Args:
        images: The images.
        classes: Names of the classes in their order.
        root: Folder to which ``file_name`` is relative.
    """
    numbers = {name: number for number, name in enumerate(classes, 1)}
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(images, 1):
        height, width = image.size
        name = image.path.relative_to(root).as_posix()
        entries.append({'id': number, 'file_name': name, 'height': height, 'width': width})
        for item in image.objects:
            rest = {key: value for key, value in item.items() if key != 'category'}
            known = {'id': len(annotations) + 1, 'image_id': number, 'category_id': numbers[item['category']]}
            annotations.append(known | rest)
    categories = [{'id': number, 'name': name} for name, number in numbers.items()]
    return {'images': entries, 'categories': categories, 'annotations': annotations}


def to_object(
    category: str, corners: Sequence[float], size: tuple[int, int], polygon: Sequence[float] | None = None
) -> dict[str, Any]:
    """Make an object of COCO's format.

    What reaches beyond the image by less than a pixel, as rounding makes it, is cut off.

    Args:
        category: Name of the class.
        corners: Left, top, right and bottom in pixels.
        size: Height and width of the image.
        polygon: x and y of the outline in turn, if there is one.
    """
    (left, top, right, bottom), (height, width) = map(float, corners), size
    left, top = (0.0 if -1 <= value < 0 else value for value in (left, top))
    right, bottom = (side if side < value <= side + 1 else value for value, side in ((right, width), (bottom, height)))
    box = [round(value, 2) for value in (left, top, right - left, bottom - top)]
    found: dict[str, Any] = {'category': category, 'bbox': box, 'area': round(box[2] * box[3], 2), 'iscrowd': 0}
    if polygon is not None:
        xs, ys = np.array(polygon[::2]), np.array(polygon[1::2])
        area = abs(float(xs @ np.roll(ys, -1) - ys @ np.roll(xs, -1))) / 2
        found |= {'area': round(area, 2), 'segmentation': [list(polygon)]}
    return found


def read_headers(paths: Sequence[Path]) -> tuple[dict[Path, ImageHeader], list[str]]:
    """Read the headers of images.

    Args:
        paths: The files.

    Returns:
        The headers, each with a size; and a note on files that cannot be read, which have none.

    Raises:
        UserError: If none can be read.
    """
    headers = read_image_headers(paths)
    found = {header.path: header for header in headers if header.size is not None}
    bad = [f'{printable(header.path.name)}: {header.reason}' for header in headers if header.size is None]
    if bad and not found:
        raise UserError(f'None of the {format_count(len(bad), "image")} can be read ({some(bad, 3)}): save them again.')
    notes = [f'left out, as it cannot be read: {some(bad, 3)}'] if bad else []
    return found, notes


def measure_images(paths: Sequence[Path]) -> tuple[dict[Path, tuple[int, int]], list[str]]:
    """Read height and width of images, as they are shown, from their headers.

    Args:
        paths: The files.

    Returns:
        The sizes; and a note on files that cannot be read, which have none.

    Raises:
        UserError: If none can be read.
    """
    headers, notes = read_headers(paths)
    return {path: header.size for path, header in headers.items() if header.size is not None}, notes


def drop_unused_classes(labels: BoxLabels) -> BoxLabels:
    """Leave out classes without a single object, such as the parent category that some exports write.

    Args:
        labels: The labels.
    """
    counts = Counter(item['category'] for image in labels.images for item in image.objects)
    unused = [name for name in labels.classes if not counts[name]]
    if not unused:
        return labels
    kept = [name for name in labels.classes if counts[name]]
    note = f'classes without an object are left out: {some(unused)}'
    return BoxLabels(labels.format, kept, labels.splits, [*labels.notes, note])


def check_labels(labels: BoxLabels, source: Path) -> None:
    """Refuse labels without an object, and classes that occur in validation or test but not in training.

    Args:
        labels: The labels, already split.
        source: Where they come from.

    Raises:
        UserError: In one sentence.
    """
    train = labels.splits.get('train', labels.splits.get('all', []))
    if not any(image.objects for image in train):
        raise UserError(f'{source} has no object in the {format_count(len(train), "image")} of training: label some.')
    refuse_untrained_classes(labels.classes, _classes_of(train), 'remove its labels')


def _is_rectangle(outline: Any) -> bool:
    """Return whether an outline is one polygon whose sides are upright or level."""
    if not isinstance(outline, list) or len(outline) != 1 or not isinstance(outline[0], list):
        return False
    return len(outline[0]) in (8, 10) and len(set(outline[0][::2])) == 2 == len(set(outline[0][1::2]))


def _classes_of(images: Iterable[LabeledImage]) -> set[str]:
    return set().union(*(image.classes for image in images))
