"""Ids, categories, areas and crowds of the annotations of a file."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from mae_toolkit.datasets.checks.coco.ids import find_repeated, is_flag, is_id, to_floats
from mae_toolkit.datasets.checks.coco.images import CocoImages
from mae_toolkit.datasets.checks.coco.settings import CocoSettings
from mae_toolkit.datasets.checks.report import SplitReport
from mae_toolkit.printing import some

NUMBERS = {int, float}


@dataclass
class CocoAnnotations:
    """The annotations of a file as arrays of length N, in the order of the file.

    Attributes:
        items: The annotations as they are in the file.
        images: The images of the file.
        rows: Index of each annotation's image, or -1 if the file has no image of this id.
        labels: Class index, or -1 if the config does not name this category.
        boxes: Boxes as they are in the file (N, 4), or NaN.
        areas: Areas as they are in the file, or NaN.
        is_crowd: Whether an annotation is a crowd, which is ignored.
        is_ignored: Whether an annotation is marked by ``ignore``.
    """

    items: list[dict[str, Any]]
    images: CocoImages
    rows: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    is_crowd: np.ndarray
    is_ignored: np.ndarray

    @property
    def is_known(self) -> np.ndarray:
        """Return whether image and class of each annotation are known (N,)."""
        return (self.rows >= 0) & (self.labels >= 0)

    @property
    def sizes(self) -> np.ndarray:
        """Return height and width of each annotation's image (N, 2), or NaN."""
        if not len(self.images.sizes):
            return np.full((len(self.items), 2), np.nan)
        return np.where(self.rows[:, None] >= 0, self.images.sizes[self.rows], np.nan)

    def describe(self, i: int) -> str:
        """Describe annotation ``i`` by image and id, such as ``'1.jpg, annotation 7'``."""
        item, row = self.items[i], self.rows[i]
        image = self.images.names[row] if row >= 0 else f'image_id {item.get("image_id")!r}'
        return f'{image}, annotation {item["id"]!r}' if 'id' in item else f'{image}, annotations[{i}]'


def read_annotations(
    items: list[dict[str, Any]],
    images: CocoImages,
    categories: list[dict[str, Any]],
    classes: dict[Any, int],
    report: SplitReport,
) -> CocoAnnotations:
    """Read the fields of all annotations but their masks, and report those that are wrong.

    Args:
        items: The annotations of the file.
        images: The images of the file.
        categories: The categories of the file.
        classes: Class index of each category's id.
        report: Receives the findings.
    """
    image_ids = [item.get('image_id') for item in items]
    rows = [images.rows.get(key, -1) if is_id(key) else -1 for key in image_ids]
    category_ids = [item.get('category_id') for item in items]
    labels = [classes.get(key, -1) if is_id(key) else -1 for key in category_ids]
    areas = [item.get('area') for item in items]
    crowds = [item.get('iscrowd', 0) for item in items]
    annotations = CocoAnnotations(
        items,
        images,
        np.array(rows, int),
        np.array(labels, int),
        _read_boxes(items),
        to_floats([area if type(area) in NUMBERS else np.nan for area in areas]),
        np.array([bool(crowd) for crowd in crowds], bool),
        np.array([bool(item.get('ignore', False)) for item in items], bool),
    )
    _check_ids(annotations, report)
    _check_image_ids(annotations, image_ids, report)
    _check_category_ids(annotations, category_ids, categories, bool(classes), report)
    no_area = np.array(['area' not in item for item in items], bool)
    remedy = 'write the area in pixels, such as width * height'
    report.add_many('annotations have no "area"', no_area, annotations.describe, remedy=remedy, fatal=True)
    wrong = ~np.isfinite(annotations.areas) & ~no_area
    report.add_many(
        'annotations have an "area" that is not a number', wrong, annotations.describe, remedy=remedy, fatal=True
    )
    wrong = np.array([not is_flag(crowd) for crowd in crowds], bool)
    reason = 'annotations have an "iscrowd" that is neither 0 nor 1'
    report.add_many(reason, wrong, annotations.describe, remedy='write 0 for single objects', fatal=True)
    return annotations


def count_classes(annotations: CocoAnnotations, seen: np.ndarray, settings: CocoSettings, report: SplitReport) -> None:
    """Count the annotations by class, and warn of classes without an annotation to train on.

    Args:
        annotations: All annotations.
        seen: Whether each annotation is trained on or measured (N,).
        settings: What the config says.
        report: Receives the counts and findings.
    """
    counts = np.bincount(annotations.labels[seen & annotations.is_known], minlength=len(settings.classes))
    report.classes = {name: int(count) for name, count in zip(settings.classes, counts, strict=True)}
    if settings.is_training and counts.any():
        report.add_many(
            'classes have no annotation to train on',
            counts == 0,
            lambda i: repr(settings.classes[i]),
            remedy='annotate some, or leave the classes out',
        )


def _read_boxes(items: list[dict[str, Any]]) -> np.ndarray:
    """Return the boxes (N, 4), NaN where an annotation does not have four numbers."""
    missing = (np.nan,) * 4
    boxes: list[Any] = [item.get('bbox') for item in items]
    is_valid = [type(box) is list and len(box) == 4 and NUMBERS.issuperset(map(type, box)) for box in boxes]
    flat = chain.from_iterable(box if valid else missing for box, valid in zip(boxes, is_valid, strict=True))
    return to_floats(list(flat)).reshape(-1, 4)


def _check_ids(annotations: CocoAnnotations, report: SplitReport) -> None:
    ids = [item.get('id') for item in annotations.items]
    is_missing = np.array(['id' not in item for item in annotations.items], bool)
    report.add_many(
        'annotations have no "id"', is_missing, annotations.describe, remedy='number them from 1', fatal=True
    )
    wrong = np.array([not is_id(key) for key in ids], bool) & ~is_missing
    reason = 'annotations have an "id" that is not a whole number'
    report.add_many(reason, wrong, annotations.describe, remedy='number them from 1', fatal=True)
    reason = 'annotations have the id of another'
    report.add_many(reason, find_repeated(ids), annotations.describe, remedy='number them from 1', fatal=True)


def _check_image_ids(annotations: CocoAnnotations, image_ids: list[Any], report: SplitReport) -> None:
    is_missing = np.array(['image_id' not in item for item in annotations.items], bool)
    remedy = 'write the id of the image'
    report.add_many('annotations have no "image_id"', is_missing, annotations.describe, remedy=remedy, fatal=True)
    _check_references(annotations, image_ids, is_missing, list(annotations.images.rows), 'image_id', 'images', report)
    unknown = (annotations.rows < 0) & ~is_missing & ~_same_as_text(image_ids, list(annotations.images.rows))
    wrong_type = np.array([not is_id(key) for key in image_ids], bool) & ~is_missing
    reason = 'annotations have an "image_id" that is not a whole number'
    report.add_many(reason, wrong_type, annotations.describe, remedy=remedy, fatal=True)
    report.add_many(
        'annotations are of images that the file does not list',
        unknown & ~wrong_type,
        annotations.describe,
        remedy='add these images to the list, or remove the annotations',
    )


def _check_category_ids(
    annotations: CocoAnnotations,
    category_ids: list[Any],
    categories: list[dict[str, Any]],
    has_classes: bool,
    report: SplitReport,
) -> None:
    is_missing = np.array(['category_id' not in item for item in annotations.items], bool)
    remedy = 'write the id of the category'
    report.add_many('annotations have no "category_id"', is_missing, annotations.describe, remedy=remedy, fatal=True)
    names = {item['id']: item.get('name') for item in categories if is_id(item.get('id'))}
    _check_references(annotations, category_ids, is_missing, list(names), 'category_id', 'categories', report)
    is_listed = np.array([is_id(key) and key in names for key in category_ids], bool)
    unknown = ~is_listed & ~is_missing & ~_same_as_text(category_ids, list(names))
    report.add_many(
        'annotations have a "category_id" that the file does not list',
        unknown,
        lambda i: f'{annotations.describe(i)}: {category_ids[i]!r}',
        remedy='add the category, or fix the ids',
        fatal=True,
    )
    unnamed = is_listed & (annotations.labels < 0)
    if has_classes and unnamed.any():
        extra = sorted({str(names[category_ids[i]]) for i in np.flatnonzero(unnamed)})
        report.add_many(
            f'annotations are of classes that are not in the config ({some(extra, 3)})',
            unnamed,
            annotations.describe,
            remedy='set metainfo=dict(classes=...) to all that are annotated, or remove the annotations',
            fatal=True,
        )


def _check_references(
    annotations: CocoAnnotations,
    keys: list[Any],
    is_missing: np.ndarray,
    known: list[Any],
    field: str,
    listed: str,
    report: SplitReport,
) -> None:
    """Report references to ids of another type, such as '1' for 1."""
    report.add_many(
        f'annotations have another type of "{field}" than the ids of the {listed} have',
        _same_as_text(keys, known) & ~is_missing,
        lambda i: f'{annotations.describe(i)}: {keys[i]!r}',
        remedy='write both as numbers',
        fatal=True,
    )


def _same_as_text(keys: list[Any], known: list[Any]) -> np.ndarray:
    """Return which references would match an id if both were text (N,)."""
    values, texts = set(known), {str(key).lstrip('0') for key in known}
    return np.array(
        [
            not (is_id(key) and key in values) and isinstance(key, float | int | str) and _text(key) in texts
            for key in keys
        ],
        bool,
    )


def _text(key: float | str) -> str:
    whole = isinstance(key, float) and key.is_integer()
    return str(int(key) if whole else key).strip().lstrip('0')
