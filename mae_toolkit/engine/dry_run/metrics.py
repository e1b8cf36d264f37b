"""What is known about metrics of MMDetection, MMSegmentation and this toolkit, without importing those libraries."""

import numbers
import sys
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from torch import Tensor

from mae_toolkit.evaluation.accuracy import Accuracy
from mae_toolkit.evaluation.class_recall import ClassRecall

LIBRARIES = ('mmdet', 'mmseg', 'mmpretrain', 'mmengine', 'mae_toolkit')
COCO_ITEMS = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')
COCO_RECALLS = ('AR@100', 'AR@300', 'AR@1000', 'AR_s@1000', 'AR_m@1000', 'AR_l@1000')
IOU_ITEMS = {'mIoU': ('mIoU', 'mAcc'), 'mDice': ('mDice', 'mAcc'), 'mFscore': ('mFscore', 'mPrecision', 'mRecall')}


def is_of_library(metric: BaseMetric) -> bool:
    """Return whether a metric is one of the libraries' and not the user's own."""
    return type(metric).__module__.partition('.')[0] in LIBRARIES


def computes_like(metric: BaseMetric, module: str, name: str) -> bool:
    """Return whether a metric computes its values with the method of a library's class, as its subclasses may do.

    Args:
        metric: The metric.
        module: Module of the class; if it is not imported yet, no metric computes like it.
        name: Name of the class.
    """
    kind = getattr(sys.modules.get(module), name, None)
    return kind is not None and getattr(type(metric), 'compute_metrics', None) is kind.compute_metrics


def is_coco(metric: BaseMetric) -> bool:
    """Return whether a metric computes its values as MMDetection's ``CocoMetric``."""
    return computes_like(metric, 'mmdet.evaluation', 'CocoMetric')


def is_iou(metric: BaseMetric) -> bool:
    """Return whether a metric computes its values as MMSegmentation's ``IoUMetric``."""
    return computes_like(metric, 'mmseg.evaluation', 'IoUMetric')


def is_number(value: Any) -> bool:
    """Return whether the value of a metric is a single number of Python, NumPy or torch."""
    if isinstance(value, Tensor | np.ndarray):
        return value.size == 1 if isinstance(value, np.ndarray) else value.numel() == 1
    return isinstance(value, numbers.Real)


def evaluates_parts(metric: BaseMetric) -> bool:
    """Return whether a metric can be computed on a few images of many.

    Some metrics of the libraries need a prediction for every annotated image; a user's own are assumed not to.
    """
    others = is_coco(metric) or is_iou(metric) or computes_like(metric, 'mmdet.evaluation', 'VOCMetric')
    return not is_of_library(metric) or isinstance(metric, Accuracy | ClassRecall) or others


def list_known_names(metric: Any) -> list[str] | None:
    """Return the names of the values that a metric computes if there is something to measure; None if unknown."""
    if isinstance(metric, Accuracy):
        classes = len((metric.dataset_meta or {}).get('classes') or ()) or max(metric.topk)
        names = [f'top{k}' for k in metric.topk if k <= classes]
    elif is_coco(metric):
        names = [] if metric.format_only else _coco_names(metric)
    elif is_iou(metric):
        columns = [column for name in metric.metrics for column in IOU_ITEMS.get(name, ())]
        names = [] if metric.format_only else list(dict.fromkeys(['aAcc', *columns]))
    else:
        return None
    return [f'{metric.prefix}/{name}' if metric.prefix else name for name in names]


def _coco_names(metric: Any) -> list[str]:
    names: list[str] = []
    for kind in metric.metrics:
        if kind == 'proposal_fast':
            names += [f'AR@{count}' for count in metric.proposal_nums]
        elif kind == 'proposal':
            names += metric.metric_items or COCO_RECALLS
        else:
            classes = (metric.dataset_meta or {}).get('classes') or () if metric.classwise else ()
            names += [f'{name}_precision' for name in classes]
            names += [f'{kind}_{item}' for item in metric.metric_items or COCO_ITEMS]
    return names
