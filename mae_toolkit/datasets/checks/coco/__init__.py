"""Check of datasets in COCO's format: every field of every annotation, and the image files."""

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
    get_coco_class,
    list_evaluator_files,
    read_settings,
)
from mae_toolkit.datasets.checks.coco.sizes import check_sizes
from mae_toolkit.datasets.checks.dataset_class import find_dataset_class
from mae_toolkit.datasets.checks.report import SplitReport
from mae_toolkit.errors import UserError

SHOW_PROGRESS = 100_000  # annotations above which there is a progress bar

__all__ = ['can_check', 'check_dataset', 'list_evaluator_files']


def can_check(dataset_cfg: Mapping[str, Any], cfg: Mapping[str, Any]) -> bool:
    """Return whether a dataset's config is that of MMDetection's CocoDataset, or of one that reads the same files.

    Args:
        dataset_cfg: Config of the dataset.
        cfg: Config of the run, from which the default scope is read.
    """
    cls, base = find_dataset_class(dataset_cfg, cfg), get_coco_class()
    if cls is None or base is None or not issubclass(cls, base):
        return False
    return cls.COCOAPI is base.COCOAPI


def check_dataset(dataset_cfg: Mapping[str, Any], split: str, cfg: Mapping[str, Any]) -> SplitReport:
    """Check an annotation file in COCO's format and the images that it lists.

    Args:
        dataset_cfg: The config of the dataset, which is not built.
        split: ``'train'``, ``'val'`` or ``'test'``.
        cfg: The config of the run, from which evaluators, scope and limits are read.
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
    with tqdm(None, f'checking {report.annotations:,} annotations', 4, leave=False, disable=not many) as bar:
        classes = check_categories(content['categories'], settings, report)
        images = check_image_fields(content['images'], settings, report)
        bar.update()
        annotations = read_annotations(content['annotations'], images, content['categories'], classes, report)
        bar.update()
        used = _find_used_images(annotations, settings, report)
        _check_files(images, used, settings, report)
        bar.update()
        _check_objects(annotations, settings, report)
        bar.update()
    return report


def _check_files(images: CocoImages, used: np.ndarray, settings: CocoSettings, report: SplitReport) -> None:
    """Check the image files, unless they are on another machine."""
    report.paths = frozenset(os.path.abspath(settings.image_folder / images.names[i]) for i in np.flatnonzero(used))
    if settings.is_local:
        check_sizes(images, check_image_files(images, used, settings, report), settings, report)


def _check_objects(annotations: CocoAnnotations, settings: CocoSettings, report: SplitReport) -> None:
    """Check boxes and masks, and count the annotations that are used."""
    kept = check_boxes(annotations, settings, report)
    if settings.needs_masks and settings.needs_annotations:
        checked = kept if settings.is_training else annotations.is_known & ~np.isnan(annotations.sizes).any(1)
        kept = kept & ~check_masks(annotations, checked, settings, report)
    seen = (kept if settings.is_training else annotations.is_known) & ~annotations.is_crowd
    count_classes(annotations, seen, settings, report)
    if seen.any() or report.errors or not settings.needs_annotations:
        return
    where = f'there is no object in any of the {report.images} images'
    if settings.is_training:
        report.add_sentence(where, 'check the annotations, whose boxes are [left, top, width, height] in pixels')
    else:
        report.add_sentence(f'{where}, so there is nothing to measure', 'annotate some', fatal=False)


def _find_used_images(annotations: CocoAnnotations, settings: CocoSettings, report: SplitReport) -> np.ndarray:
    """Return which images MMDetection's filters and ``indices`` keep (N,), and count the others."""
    images: CocoImages = annotations.images
    used = np.ones(len(images.names), bool)
    if settings.filters_empty:
        used[:] = False
        used[annotations.rows[annotations.is_known]] = True
        report.left_out.update({'images without an object': int((~used).sum())} if not used.all() else {})
    with np.errstate(invalid='ignore'):
        small = used & (images.sizes.min(1, initial=np.inf) < settings.min_size)
    if small.any():
        report.left_out[f'images of less than min_size={settings.min_size} pixels'] += int(small.sum())
        used &= ~small
    if settings.indices is not None:
        where = np.flatnonzero(used)
        indices = settings.indices
        if isinstance(indices, int):  # so many from the beginning, or below 0 from the end
            indices = range(len(where))[:indices] if indices >= 0 else range(len(where))[indices:]
        beyond = [i for i in indices if type(i) is not int or not -len(where) <= i < len(where)]
        if beyond:
            report.add_sentence(
                f'indices has {beyond[0]!r}, and there are {len(where)} images to choose from: set numbers of 0 to '
                f'{len(where) - 1}'
            )
            return used
        selected = where[list(indices)]
        used[:] = False
        used[selected] = True
        report.left_out['images that are not among "indices"'] += len(where) - len(selected)
    return used
