"""Check of boxes against the sizes of their images."""

from __future__ import annotations

import numpy as np

from mae_toolkit.datasets.checks.coco.annotations import CocoAnnotations
from mae_toolkit.datasets.checks.coco.ids import is_flag
from mae_toolkit.datasets.checks.coco.settings import CocoSettings
from mae_toolkit.datasets.checks.report import SplitReport

XYWH = 'write them as [left, top, width, height] in pixels'
NO_AREA = 'annotations have an area of 0 or less'
AREA = 'write the area in pixels, by which objects count as small, medium or large'
NOT_DETECTABLE = 'fix or remove them; they are measured as objects that cannot be found'
IGNORED = 'which count neither as object nor as background'
MIN_BOXES = 4  # from which a format is recognized
NEARLY_ALL = 0.95
TOO_LARGE = 2.0**31  # pixels; far larger numbers overflow in 32-bit floats


def check_boxes(annotations: CocoAnnotations, settings: CocoSettings, report: SplitReport) -> np.ndarray:
    """Check the boxes and areas of all annotations, and count what will be left out.

    Args:
        annotations: All annotations.
        settings: What the config says.
        report: Receives the findings and counts.

    Returns:
        Whether MMDetection uses each annotation (N,), as an object or as a crowd; False for all if the boxes of the
        whole file are in another format.
    """
    is_missing = np.array([item.get('bbox') is None for item in annotations.items], bool)
    report.add_many('annotations have no "bbox"', is_missing, annotations.describe, remedy=XYWH, fatal=True)
    has_box = np.isfinite(annotations.boxes).all(1)
    reason = 'annotations have a "bbox" that is not four numbers'
    report.add_many(reason, ~has_box & ~is_missing, annotations.describe, remedy=XYWH, fatal=True)
    with np.errstate(invalid='ignore'):
        too_large = has_box & (np.abs(annotations.boxes) >= TOO_LARGE).any(1)
    reason = 'annotations have a "bbox" of 2^31 pixels or more'
    report.add_many(reason, too_large, lambda i: _describe_box(annotations, i), remedy=XYWH, fatal=True)
    _report_ignored(annotations, report)
    usable = has_box & ~too_large & (annotations.rows >= 0) & ~np.isnan(annotations.sizes).any(1)
    box_format = recognize_box_format(annotations, usable & ~annotations.is_crowd)
    if box_format:
        report.add_sentence(box_format, XYWH)
        return np.zeros(len(usable), bool)
    reasons = _find_left_out(annotations, usable)
    _report_left_out(annotations, reasons, settings, report)
    _report_beyond(annotations, usable & ~np.any(list(reasons.values()), axis=0), settings, report)
    _report_areas(annotations, usable, report)
    _report_percents(annotations, usable, report)
    _report_repeated(annotations, usable & annotations.is_known & ~annotations.is_crowd, report)
    return usable & annotations.is_known & ~annotations.is_ignored & ~np.any(list(reasons.values()), axis=0)


def recognize_box_format(annotations: CocoAnnotations, usable: np.ndarray) -> str:
    """Recognize boxes that are corners, or fractions of the image, throughout a file.

    Args:
        annotations: All annotations.
        usable: Whether each annotation has a box and an image (N,).

    Returns:
        A sentence about the format, or an empty string.
    """
    boxes, (height, width) = annotations.boxes[usable], annotations.sizes[usable].T
    if len(boxes) < MIN_BOXES:
        return ''
    is_fraction = (np.abs(boxes).max(1) <= 1) & (np.minimum(height, width) > 2)
    if is_fraction.mean() >= 0.5:
        return (
            f'the boxes of {is_fraction.sum()} of {len(boxes)} annotations lie between 0 and 1, as fractions of the '
            f'image ({_first_example(annotations, usable, is_fraction)})'
        )
    left, top, right, bottom = boxes.T
    corners = (right > left) & (bottom > top) & (right <= width + 1) & (bottom <= height + 1)
    beyond = (left + right > width + 1) | (top + bottom > height + 1)
    if corners.mean() < NEARLY_ALL:
        return ''
    by_area = _is_near(annotations.areas[usable], (right - left) * (bottom - top)) & ~_is_near(
        annotations.areas[usable], right * bottom
    )
    if beyond.mean() >= 0.2 or by_area.mean() >= 0.8:
        return (
            f'the boxes of {corners.sum()} of {len(boxes)} annotations look like [left, top, right, bottom]: as '
            f'[left, top, width, height], {beyond.sum()} would reach beyond their images '
            f'({_first_example(annotations, usable, beyond if beyond.any() else by_area)})'
        )
    return ''


def _is_near(values: np.ndarray, expected: np.ndarray) -> np.ndarray:
    return np.abs(values - expected) <= 0.02 * np.abs(expected) + 0.5


def _first_example(annotations: CocoAnnotations, usable: np.ndarray, selected: np.ndarray) -> str:
    """Describe the first selected one of the usable annotations."""
    return _describe_box(annotations, int(np.flatnonzero(usable)[np.flatnonzero(selected)[0]]))


def _describe_box(annotations: CocoAnnotations, i: int) -> str:
    return f'{annotations.describe(i)}: {annotations.items[i]["bbox"]}'


def _report_ignored(annotations: CocoAnnotations, report: SplitReport) -> None:
    """Report annotations marked by ``ignore``, which MMDetection drops but pycocotools measures as objects."""
    marks = [item.get('ignore', False) for item in annotations.items]
    wrong = np.array([mark is not None and not is_flag(mark) for mark in marks], bool)
    reason = 'annotations have an "ignore" that is neither 0 nor 1'
    report.add_many(reason, wrong, annotations.describe, remedy='write 0 for objects', fatal=True)
    report.add_many(
        'annotations are marked by "ignore", which training leaves out and metrics count as objects',
        annotations.is_ignored & ~wrong,
        annotations.describe,
        remedy='write "iscrowd": 1 in its place, or remove them',
    )


def _find_left_out(annotations: CocoAnnotations, usable: np.ndarray) -> dict[str, np.ndarray]:
    """Return which annotations MMDetection leaves out (N,), by the first reason that applies to each."""
    left, top, width, height = np.where(usable[:, None], annotations.boxes, [0.0, 0.0, 1.0, 1.0]).T
    image_height, image_width = np.where(usable[:, None], annotations.sizes, 1).T
    inner_width = np.minimum(left + width, image_width) - np.maximum(left, 0)
    inner_height = np.minimum(top + height, image_height) - np.maximum(top, 0)
    areas = np.where(usable & np.isfinite(annotations.areas), annotations.areas, 1)
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
    annotations: CocoAnnotations, reasons: dict[str, np.ndarray], settings: CocoSettings, report: SplitReport
) -> None:
    for reason, wrong in reasons.items():
        remedy = 'fix or remove them; training leaves them out'
        if not settings.is_training:
            remedy = AREA if reason == NO_AREA else NOT_DETECTABLE
        report.add_many(
            reason, wrong, lambda i: f'{annotations.describe(i)}: {_describe_fields(annotations, i)}', remedy=remedy
        )
    orphans = annotations.rows < 0
    lost = np.any([wrong for reason, wrong in reasons.items() if settings.is_training or reason != NO_AREA], axis=0)
    lost |= orphans
    if len(lost) and lost.mean() > settings.max_left_out and not report.errors:
        report.add_sentence(
            f'{lost.sum()} of the {len(lost)} annotations cannot be used, more than '
            f'data_check.max_left_out={settings.max_left_out} allows',
            'fix the file, or raise the limit',
        )
    if settings.is_training:
        counts = {reason.replace(' have ', ' with '): wrong.sum() for reason, wrong in reasons.items()}
        counts['annotations of images that are not listed'] = orphans.sum()
        counts['annotations marked by "ignore"'] = (annotations.is_ignored & ~lost).sum()
        counts['annotations of crowds, which count neither as object nor as background'] = (
            annotations.is_crowd & ~lost
        ).sum()
        report.left_out.update({reason: int(count) for reason, count in counts.items() if count})


def _describe_fields(annotations: CocoAnnotations, i: int) -> str:
    item = annotations.items[i]
    return f'bbox {item["bbox"]}, area {item.get("area")}'


def _report_beyond(annotations: CocoAnnotations, kept: np.ndarray, settings: CocoSettings, report: SplitReport) -> None:
    left, top, width, height = annotations.boxes.T
    image_height, image_width = annotations.sizes.T
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
        lambda i: f'{_describe_box(annotations, i)} in {int(image_width[i])} x {int(image_height[i])}',
        remedy=remedy,
        fatal=bool(too_many),
    )


def _report_areas(annotations: CocoAnnotations, usable: np.ndarray, report: SplitReport) -> None:
    boxes = np.where(usable[:, None], annotations.boxes, 1)
    with np.errstate(invalid='ignore', over='ignore'):
        area = boxes[:, 2] * boxes[:, 3]
        wrong = usable & (annotations.areas > 1.1 * area + 2) & (area > 0)
    report.add_many(
        'annotations have an area that is larger than that of their box',
        wrong,
        lambda i: f'{annotations.describe(i)}: {_describe_fields(annotations, i)}',
        remedy=AREA,
    )


def _report_percents(annotations: CocoAnnotations, usable: np.ndarray, report: SplitReport) -> None:
    """Warn if all boxes lie in the first 100 pixels of far larger images, as boxes in percent would."""
    boxes, sizes = annotations.boxes[usable], annotations.sizes[usable]
    if len(boxes) < 20 or np.median(sizes.min(1)) < 300:
        return
    corners = boxes[:, :2] + boxes[:, 2:]
    if boxes.min() >= 0 and corners.max() <= 100:
        report.add_sentence(
            f'all {len(boxes)} boxes lie in the first 100 x 100 pixels of their images, as boxes in percent do',
            f'unless they are in pixels, {XYWH}',
            fatal=False,
        )


def _report_repeated(annotations: CocoAnnotations, usable: np.ndarray, report: SplitReport) -> None:
    (where,) = np.nonzero(usable)
    keys = np.column_stack([annotations.rows[where], annotations.labels[where], annotations.boxes[where]])
    _, first = np.unique(keys, axis=0, return_index=True)
    again = np.zeros(len(usable), bool)
    again[where] = True
    again[where[first]] = False
    report.add_many(
        'annotations have the image, class and box of another',
        again,
        lambda i: f'{annotations.describe(i)}: {annotations.items[i]["bbox"]}',
        remedy='remove those that were written twice',
    )
