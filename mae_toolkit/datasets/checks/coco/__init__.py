"""The check of datasets of COCO's format: every field of every annotation, and the images that it is of."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from tqdm import tqdm

from mae_toolkit.datasets.checks.coco.annotations import CocoAnnotations, count_classes, read_annotations
from mae_toolkit.datasets.checks.coco.boxes import check_boxes
from mae_toolkit.datasets.checks.coco.categories import check_categories
from mae_toolkit.datasets.checks.coco.file import read_annotation_file
from mae_toolkit.datasets.checks.coco.images import CocoImages, check_image_fields, check_image_files
from mae_toolkit.datasets.checks.coco.masks import check_masks
from mae_toolkit.datasets.checks.coco.settings import (
    CocoSettings,
    coco_class,
    evaluator_files,
    find_class,
    read_settings,
)
from mae_toolkit.datasets.checks.coco.sizes import check_sizes
from mae_toolkit.datasets.checks.report import SplitReport
from mae_toolkit.errors import UserError

SHOW_PROGRESS = 100_000  # annotations above which there is a progress bar

__all__ = ['can_check', 'check_dataset', 'evaluator_files']


def can_check(dataset_cfg: Mapping[str, Any], cfg: Mapping[str, Any]) -> bool:
    """Tell whether a dataset's config is of MMDetection's CocoDataset, or of one that reads the same files."""
    found, base = find_class(dataset_cfg, cfg), coco_class()
    return found is not None and base is not None and issubclass(found, base) and found.COCOAPI is base.COCOAPI


def check_dataset(dataset_cfg: Mapping[str, Any], split: str, cfg: Mapping[str, Any]) -> SplitReport:
    """Look at an annotation file of COCO's format and the images that it lists.

    Args:
        dataset_cfg: The config of the dataset, which is not built.
        split: ``'train'``, ``'val'`` or ``'test'``.
        cfg: The config of the run, of which evaluators, scope and limits are read.
    """
    report = SplitReport(split, str(dataset_cfg.get('ann_file', '')), 'detection')
    try:
        settings = read_settings(dataset_cfg, split, cfg)
        report.source = str(settings.ann_file)
        optional = () if settings.needs_annotations else ('annotations',)
        content = read_annotation_file(settings.ann_file, optional)
    except UserError as error:
        report.add_sentence(str(error).rstrip('.'))
        return report
    report.images, report.annotations = len(content['images']), len(content['annotations'])
    many = report.annotations > SHOW_PROGRESS
    with tqdm(None, f'looking at {report.annotations:,} annotations', 4, leave=False, disable=not many) as bar:
        classes = check_categories(content['categories'], settings, report)
        images = check_image_fields(content['images'], settings, report)
        bar.update()
        found = read_annotations(content['annotations'], images, content['categories'], classes, report)
        bar.update()
        used = _find_used_images(found, settings, report)
        _check_files(images, used, settings, report)
        bar.update()
        _check_objects(found, settings, report)
        bar.update()
    return report


def _check_files(images: CocoImages, used: np.ndarray, settings: CocoSettings, report: SplitReport) -> None:
    """Look at the images, unless they are elsewhere."""
    report.paths = frozenset(os.path.abspath(settings.image_folder / images.names[i]) for i in np.flatnonzero(used))
    if settings.is_local:
        check_sizes(images, check_image_files(images, used, settings, report), settings, report)


def _check_objects(found: CocoAnnotations, settings: CocoSettings, report: SplitReport) -> None:
    """Check boxes and masks, and count what is left."""
    kept = check_boxes(found, settings, report)
    if settings.needs_masks and settings.needs_annotations:
        checked = kept if settings.is_training else found.is_known & ~np.isnan(found.sizes).any(1)
        kept = kept & ~check_masks(found, checked, settings, report)
    seen = (kept if settings.is_training else found.is_known) & ~found.is_crowd
    count_classes(found, seen, settings, report)
    if seen.any() or report.errors or not settings.needs_annotations:
        return
    where = f'there is no object in any of the {report.images} images'
    if settings.is_training:
        report.add_sentence(where, 'look at the annotations, whose boxes are [left, top, width, height] in pixels')
    else:
        report.add_sentence(f'{where}, so there is nothing to measure', 'annotate some', fatal=False)


def _find_used_images(found: CocoAnnotations, settings: CocoSettings, report: SplitReport) -> np.ndarray:
    """Find the images that MMDetection's filters and ``indices`` leave, and count the others."""
    images: CocoImages = found.images
    used = np.ones(len(images.names), bool)
    if settings.filters_empty:
        used[:] = False
        used[found.rows[found.is_known]] = True
        report.left_out.update({'images without an object': int((~used).sum())} if not used.all() else {})
    with np.errstate(invalid='ignore'):
        small = used & (images.sizes.min(1, initial=np.inf) < settings.min_size)
    if small.any():
        report.left_out[f'images of less than min_size={settings.min_size} pixels'] += int(small.sum())
        used &= ~small
    if settings.indices is not None:
        where = np.flatnonzero(used)
        number = settings.indices
        if isinstance(number, int):  # so many from the beginning, or below 0 from the end
            number = range(len(where))[:number] if number >= 0 else range(len(where))[number:]
        beyond = [place for place in number if type(place) is not int or not -len(where) <= place < len(where)]
        if beyond:
            report.add_sentence(
                f'indices has {beyond[0]!r}, and there are {len(where)} images to choose from: set numbers of 0 to '
                f'{len(where) - 1}'
            )
            return used
        chosen = where[list(number)]
        used[:] = False
        used[chosen] = True
        report.left_out['images that are not among "indices"'] += len(where) - len(chosen)
    return used
