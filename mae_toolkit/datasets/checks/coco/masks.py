"""Check of polygons and run lengths."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np

from mae_toolkit.datasets.checks.coco.annotations import NUMBERS, CocoAnnotations
from mae_toolkit.datasets.checks.coco.boxes import IGNORED
from mae_toolkit.datasets.checks.coco.ids import to_floats
from mae_toolkit.datasets.checks.coco.run_lengths import EMPTY, find_faults
from mae_toolkit.datasets.checks.coco.settings import CocoSettings
from mae_toolkit.datasets.checks.report import SplitReport

POLYGONS = 'write [[x1, y1, x2, y2, x3, y3, ...], ...] in pixels, or run lengths'
MIN_NUMBERS = 6  # of a polygon, for 3 points
TOO_FAR = 2.0**20  # pixels; pycocotools also draws polygons outside the image, and crashes at larger numbers


def check_masks(
    annotations: CocoAnnotations, checked: np.ndarray, settings: CocoSettings, report: SplitReport
) -> np.ndarray:
    """Check the masks of annotations.

    Args:
        annotations: All annotations.
        checked: Whether the mask of each annotation will be read (N,).
        settings: What the config says.
        report: Receives the findings.

    Returns:
        Whether each annotation is left out because of its mask (N,).
    """
    masks = [item.get('segmentation') for item in annotations.items]
    is_empty = np.array([not mask for mask in masks], bool) & checked
    report.add_many(
        'annotations have no "segmentation", or an empty one',
        is_empty,
        annotations.describe,
        remedy='draw or remove them, or train a detector of boxes alone',
        fatal=True,
    )
    is_list = np.array([type(mask) is list for mask in masks], bool) & checked & ~is_empty
    is_dict = np.array([type(mask) is dict for mask in masks], bool) & checked & ~is_empty
    is_nested = is_list & np.array(
        [bool(mask) and type(mask) is list and set(map(type, mask)) == {list} for mask in masks], bool
    )
    other = checked & ~is_empty & ~is_nested & ~is_dict
    reason = 'annotations have a "segmentation" that is neither a list of polygons nor run lengths'
    report.add_many(reason, other, annotations.describe, remedy=POLYGONS, fatal=True)
    left_out = _check_polygons(annotations, is_nested, settings, report)
    _check_run_lengths(annotations, is_dict, report)
    if settings.needs_polygons:
        report.add_many(
            'annotations have run lengths as mask, which poly2mask=False leaves out',
            is_dict,
            annotations.describe,
            remedy='leave poly2mask at its default',
        )
        left_out = left_out | is_dict
    if settings.is_training and left_out.any():
        report.left_out[f'annotations with masks that cannot be used, {IGNORED}'] += int(left_out.sum())
    return left_out


def _check_polygons(
    annotations: CocoAnnotations, is_nested: np.ndarray, settings: CocoSettings, report: SplitReport
) -> np.ndarray:
    """Check masks that are lists of lists, and return which have no usable polygon (N,)."""
    (where,) = np.nonzero(is_nested)
    polygons = [polygon for i in where for polygon in annotations.items[i]['segmentation']]
    owners = np.repeat(where, [len(annotations.items[i]['segmentation']) for i in where]).astype(int)
    lengths = np.array([len(polygon) for polygon in polygons], int)
    wrong = np.zeros(len(annotations.items), bool)
    values, broken = _flatten(polygons, lengths)
    wrong[owners[broken]] = True
    reason = 'annotations have a polygon with something that is not a number'
    report.add_many(reason, wrong, annotations.describe, remedy=POLYGONS, fatal=True)
    far = np.zeros(len(annotations.items), bool)
    with np.errstate(invalid='ignore'):
        far[np.repeat(owners, lengths)[np.abs(values) >= TOO_FAR]] = True
    reason = 'annotations have a polygon that is 2^20 pixels or more away'
    report.add_many(reason, far & ~wrong, annotations.describe, remedy=POLYGONS, fatal=True)
    is_short = (lengths < MIN_NUMBERS) | (lengths % 2 == 1)
    has_short, all_short = np.zeros(len(annotations.items), bool), is_nested.copy()
    has_short[owners[is_short]] = True
    all_short[owners[~is_short]] = False
    report.add_many(
        'annotations have a polygon of fewer than 6 numbers, or of an odd number of them',
        has_short,
        annotations.describe,
        remedy='fix or remove them; training leaves these polygons out' if settings.is_training else POLYGONS,
        fatal=not settings.is_training,
    )
    _report_flat(annotations, owners, lengths, values, report)
    if len(values) and not report.errors:  # boxes in another format say nothing about masks
        _report_apart_from_box(annotations, owners, lengths, values, settings, report)
    return all_short


def _flatten(polygons: list[list[Any]], lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of all polygons, one after the other, and which polygons have invalid numbers."""
    flat = list(chain.from_iterable(polygons))
    broken = np.zeros(len(polygons), bool)
    if not NUMBERS.issuperset(map(type, flat)):
        broken = np.array([not NUMBERS.issuperset(map(type, polygon)) for polygon in polygons], bool)
        flat = [value if type(value) in NUMBERS else np.nan for value in flat]
    values = to_floats(flat)
    if not np.isfinite(values).all():
        ends = np.cumsum(lengths)
        number = np.searchsorted(ends, np.flatnonzero(~np.isfinite(values)), side='right')
        broken[number] = True
    return values, broken


def _report_flat(
    annotations: CocoAnnotations, owners: np.ndarray, lengths: np.ndarray, values: np.ndarray, report: SplitReport
) -> None:
    """Report masks whose polygons have no area, as those of points in a line have."""
    usable = (lengths >= MIN_NUMBERS) & (lengths % 2 == 0)
    points = values[np.repeat(usable, lengths)].reshape(-1, 2)
    numbers = lengths[usable] // 2
    ends = np.cumsum(numbers)
    following = np.arange(1, len(points) + 1)
    following[ends - 1] = ends - numbers
    with np.errstate(invalid='ignore', over='ignore'):
        cross = points[:, 0] * points[following, 1] - points[following, 0] * points[:, 1]
        areas = np.abs(np.add.reduceat(cross, ends - numbers)) if len(ends) else np.zeros(0)
    has_area, has_polygon = np.zeros(len(annotations.items), bool), np.zeros(len(annotations.items), bool)
    has_polygon[owners[usable]] = True
    has_area[owners[usable][~(areas < 1e-6)]] = True
    reason = 'annotations have a mask whose polygons have no area'
    report.add_many(reason, has_polygon & ~has_area, annotations.describe, remedy='fix or remove them')


def _report_apart_from_box(
    annotations: CocoAnnotations,
    owners: np.ndarray,
    lengths: np.ndarray,
    values: np.ndarray,
    settings: CocoSettings,
    report: SplitReport,
) -> None:
    """Report masks that do not touch their boxes, such as masks in other units."""
    bounds = np.full((4, len(annotations.items)), np.nan)
    number = np.repeat(owners, lengths)
    offset = np.arange(len(values)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    for k, (axis, extreme) in enumerate([(0, np.fmin), (1, np.fmin), (0, np.fmax), (1, np.fmax)]):
        selected = offset % 2 == axis
        extreme.at(bounds[k], number[selected], values[selected])
    left, top, width, height = annotations.boxes.T
    with np.errstate(invalid='ignore'):
        apart = (bounds[2] < left - 1) | (bounds[3] < top - 1)
        apart |= (bounds[0] > left + width + 1) | (bounds[1] > top + height + 1)
    num_masks = len(np.unique(owners))
    report.add_many(
        'annotations have a mask that does not touch their box',
        apart,
        lambda i: f'{annotations.describe(i)}: bbox {annotations.items[i]["bbox"]}',
        remedy='write both in pixels of the same image',
        fatal=bool(apart.sum() > settings.max_left_out * num_masks),
    )


def _check_run_lengths(annotations: CocoAnnotations, is_dict: np.ndarray, report: SplitReport) -> None:
    (where,) = np.nonzero(is_dict)
    faults: dict[str, dict[int, str]] = {}
    masks = [annotations.items[i]['segmentation'] for i in where]
    for i, fault in zip(where, find_faults(masks, annotations.sizes[where]), strict=True):
        if fault is not None:
            faults.setdefault(fault[0], {})[int(i)] = fault[1]
    for reason, places in faults.items():
        wrong = np.zeros(len(annotations.items), bool)
        wrong[list(places)] = True

        def describe(i: int, numbers: dict[int, str] = places) -> str:
            return f'{annotations.describe(i)}: {numbers[i]}' if numbers[i] else annotations.describe(i)

        report.add_many(
            f'annotations have run lengths {reason}',
            wrong,
            describe,
            remedy='encode the masks again, each in the size of its image',
            fatal=reason != EMPTY,
        )
