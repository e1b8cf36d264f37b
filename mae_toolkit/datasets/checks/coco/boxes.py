"""Boxes of the annotations of a file against the images that they are of."""

from __future__ import annotations

import numpy as np

from mae_toolkit.datasets.checks.coco.annotations import CocoAnnotations
from mae_toolkit.datasets.checks.coco.ids import is_flag
from mae_toolkit.datasets.checks.coco.settings import CocoSettings
from mae_toolkit.datasets.checks.report import SplitReport

XYWH = 'write them as [left, top, width, height] in pixels'
NO_AREA = 'annotations have an area of 0 or less'
AREA = 'write the area in pixels, by which objects count as small, medium or large'
UNFOUND = 'mend or remove them; they are measured as objects that cannot be found'
NEITHER = 'which count neither as object nor as background'
FEWEST = 4  # boxes from which a pattern is recognized
NEARLY_ALL = 0.95
TOO_LARGE = 2.0**31  # pixels; far larger numbers overflow in 32-bit floats


def check_boxes(found: CocoAnnotations, settings: CocoSettings, report: SplitReport) -> np.ndarray:
    """Check the boxes and areas, and count what will be left out.

    Returns:
        Whether MMDetection will train on each annotation, or only leave its place out of the loss, as that of a crowd;
        none where the boxes of the whole file are of another form.
    """
    lacking = np.array([item.get('bbox') is None for item in found.items], bool)
    report.add_many('annotations have no "bbox"', lacking, found.describe, remedy=XYWH, fatal=True)
    has_box = np.isfinite(found.boxes).all(1)
    reason = 'annotations have a "bbox" that is not four numbers'
    report.add_many(reason, ~has_box & ~lacking, found.describe, remedy=XYWH, fatal=True)
    with np.errstate(invalid='ignore'):
        too_large = has_box & (np.abs(found.boxes) >= TOO_LARGE).any(1)
    reason = 'annotations have a "bbox" of 2^31 pixels or more'
    report.add_many(reason, too_large, lambda i: _example_of(found, i), remedy=XYWH, fatal=True)
    _report_ignored(found, report)
    usable = has_box & ~too_large & (found.rows >= 0) & ~np.isnan(found.sizes).any(1)
    pattern = recognize_pattern(found, usable & ~found.is_crowd)
    if pattern:
        report.add_sentence(pattern, XYWH)
        return np.zeros(len(usable), bool)
    reasons = _left_out(found, usable)
    _report_left_out(found, reasons, settings, report)
    _report_beyond(found, usable & ~np.any(list(reasons.values()), axis=0), settings, report)
    _report_areas(found, usable, report)
    _report_percents(found, usable, report)
    _report_repeated(found, usable & found.is_known & ~found.is_crowd, report)
    return usable & found.is_known & ~found.is_ignored & ~np.any(list(reasons.values()), axis=0)


def recognize_pattern(found: CocoAnnotations, usable: np.ndarray) -> str:
    """Say whether the boxes of a whole file are corners, or shares of the image, or nothing."""
    boxes, (height, width) = found.boxes[usable], found.sizes[usable].T
    if len(boxes) < FEWEST:
        return ''
    shares = (np.abs(boxes).max(1) <= 1) & (np.minimum(height, width) > 2)
    if shares.mean() >= 0.5:
        return (
            f'the boxes of {shares.sum()} of {len(boxes)} annotations lie between 0 and 1, as shares of the image '
            f'({_example(found, usable, shares)})'
        )
    left, top, right, bottom = boxes.T
    corners = (right > left) & (bottom > top) & (right <= width + 1) & (bottom <= height + 1)
    beyond = (left + right > width + 1) | (top + bottom > height + 1)
    if corners.mean() < NEARLY_ALL:
        return ''
    by_area = _is_near(found.areas[usable], (right - left) * (bottom - top)) & ~_is_near(
        found.areas[usable], right * bottom
    )
    if beyond.mean() >= 0.2 or by_area.mean() >= 0.8:
        return (
            f'the boxes of {corners.sum()} of {len(boxes)} annotations look like [left, top, right, bottom]: as '
            f'[left, top, width, height], {beyond.sum()} would reach beyond their images '
            f'({_example(found, usable, beyond if beyond.any() else by_area)})'
        )
    return ''


def _is_near(values: np.ndarray, expected: np.ndarray) -> np.ndarray:
    return np.abs(values - expected) <= 0.02 * np.abs(expected) + 0.5


def _example(found: CocoAnnotations, usable: np.ndarray, chosen: np.ndarray) -> str:
    return _example_of(found, int(np.flatnonzero(usable)[np.flatnonzero(chosen)[0]]))


def _example_of(found: CocoAnnotations, i: int) -> str:
    return f'{found.describe(i)}: {found.items[i]["bbox"]}'


def _report_ignored(found: CocoAnnotations, report: SplitReport) -> None:
    """Report annotations marked by ``ignore``, which MMDetection drops and pycocotools measures as objects."""
    marks = [item.get('ignore', False) for item in found.items]
    wrong = np.array([mark is not None and not is_flag(mark) for mark in marks], bool)
    reason = 'annotations have an "ignore" that is neither 0 nor 1'
    report.add_many(reason, wrong, found.describe, remedy='write 0 for objects', fatal=True)
    report.add_many(
        'annotations are marked by "ignore", which training leaves out and metrics count as objects',
        found.is_ignored & ~wrong,
        found.describe,
        remedy='write "iscrowd": 1 in its place, or remove them',
    )


def _left_out(found: CocoAnnotations, usable: np.ndarray) -> dict[str, np.ndarray]:
    """Find what MMDetection leaves out, by the first reason of each annotation."""
    left, top, width, height = np.where(usable[:, None], found.boxes, [0.0, 0.0, 1.0, 1.0]).T
    image_height, image_width = np.where(usable[:, None], found.sizes, 1).T
    inner_width = np.minimum(left + width, image_width) - np.maximum(left, 0)
    inner_height = np.minimum(top + height, image_height) - np.maximum(top, 0)
    areas = np.where(usable & np.isfinite(found.areas), found.areas, 1)
    reasons = {
        'annotations have a box without width or height': (width <= 0) | (height <= 0),
        'annotations have a box outside the image': (inner_width <= 0) | (inner_height <= 0),
        'annotations have a box of less than one pixel': (width < 1) | (height < 1),
        NO_AREA: areas <= 0,
    }
    already = np.zeros(len(usable), bool)
    for reason, wrong in reasons.items():
        reasons[reason] = wrong & usable & ~already
        already |= wrong
    return reasons


def _report_left_out(
    found: CocoAnnotations, reasons: dict[str, np.ndarray], settings: CocoSettings, report: SplitReport
) -> None:
    for reason, wrong in reasons.items():
        remedy = 'mend or remove them; training leaves them out'
        if not settings.is_training:
            remedy = AREA if reason == NO_AREA else UNFOUND
        report.add_many(reason, wrong, lambda i: f'{found.describe(i)}: {_written(found, i)}', remedy=remedy)
    orphans = found.rows < 0
    lost = np.any([wrong for reason, wrong in reasons.items() if settings.is_training or reason != NO_AREA], axis=0)
    lost |= orphans
    if len(lost) and lost.mean() > settings.max_left_out and not report.errors:
        report.add_sentence(
            f'{lost.sum()} of the {len(lost)} annotations cannot be used, more than '
            f'data_check.max_left_out={settings.max_left_out} allows',
            'mend the file, or raise the limit',
        )
    if settings.is_training:
        counts = {reason.replace(' have ', ' with '): wrong.sum() for reason, wrong in reasons.items()}
        counts['annotations of images that are not listed'] = orphans.sum()
        counts['annotations marked by "ignore"'] = (found.is_ignored & ~lost).sum()
        counts['annotations of crowds, which count neither as object nor as background'] = (
            found.is_crowd & ~lost
        ).sum()
        report.left_out.update({reason: int(count) for reason, count in counts.items() if count})


def _written(found: CocoAnnotations, i: int) -> str:
    item = found.items[i]
    return f'bbox {item["bbox"]}, area {item.get("area")}'


def _report_beyond(found: CocoAnnotations, kept: np.ndarray, settings: CocoSettings, report: SplitReport) -> None:
    left, top, width, height = found.boxes.T
    image_height, image_width = found.sizes.T
    with np.errstate(invalid='ignore', over='ignore'):
        beyond = (left < -1) | (top < -1) | (left + width > image_width + 1) | (top + height > image_height + 1)
    beyond &= kept
    too_many = kept.any() and beyond.sum() > settings.max_left_out * kept.sum()
    remedy = XYWH
    if too_many:
        remedy += f', or raise data_check.max_left_out={settings.max_left_out}'
    report.add_many(
        'annotations have a box that reaches beyond the image',
        beyond,
        lambda i: f'{found.describe(i)}: {found.items[i]["bbox"]} in {int(image_width[i])} x {int(image_height[i])}',
        remedy=remedy,
        fatal=bool(too_many),
    )


def _report_areas(found: CocoAnnotations, usable: np.ndarray, report: SplitReport) -> None:
    boxes = np.where(usable[:, None], found.boxes, 1)
    with np.errstate(invalid='ignore', over='ignore'):
        area = boxes[:, 2] * boxes[:, 3]
        wrong = usable & (found.areas > 1.1 * area + 2) & (area > 0)
    report.add_many(
        'annotations have an area that is larger than that of their box',
        wrong,
        lambda i: f'{found.describe(i)}: {_written(found, i)}',
        remedy=AREA,
    )


def _report_percents(found: CocoAnnotations, usable: np.ndarray, report: SplitReport) -> None:
    """Warn where all boxes lie in the first 100 pixels of far larger images, as those in percent do."""
    boxes, sizes = found.boxes[usable], found.sizes[usable]
    if len(boxes) < 20 or np.median(sizes.min(1)) < 300:
        return
    corners = boxes[:, :2] + boxes[:, 2:]
    if boxes.min() >= 0 and corners.max() <= 100:
        report.add_sentence(
            f'all {len(boxes)} boxes lie in the first 100 x 100 pixels of their images, as boxes in percent do',
            f'unless they are in pixels, {XYWH}',
            fatal=False,
        )


def _report_repeated(found: CocoAnnotations, usable: np.ndarray, report: SplitReport) -> None:
    (where,) = np.nonzero(usable)
    keys = np.column_stack([found.rows[where], found.labels[where], found.boxes[where]])
    _, first = np.unique(keys, axis=0, return_index=True)
    again = np.zeros(len(usable), bool)
    again[where] = True
    again[where[first]] = False
    report.add_many(
        'annotations have the image, class and box of another',
        again,
        lambda i: f'{found.describe(i)}: {found.items[i]["bbox"]}',
        remedy='remove those that were written twice',
    )
