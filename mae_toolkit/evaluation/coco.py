"""Annotations of COCO's format inside evaluators."""

from __future__ import annotations

from logging import Logger
from typing import Any

from mmengine.evaluator import Evaluator


def repair_annotations(evaluator: Evaluator, logger: Logger) -> None:
    """Repair, in memory, the annotations of evaluators that measure with pycocotools.

    pycocotools marks an object that was found by its id, so it never counts one of id 0, and cannot mark ids that are
    no numbers; and it fails on annotations without ``iscrowd``. They are numbered from 1, and are of single objects.

    Args:
        evaluator: An evaluator; metrics without annotations of COCO's format are left as they are.
        logger: Takes one line for each metric that is changed.
    """
    for metric in evaluator.metrics:
        api = getattr(metric, '_coco_api', None)
        content = getattr(api, 'dataset', None)
        if not isinstance(content, dict) or not isinstance(getattr(api, 'anns', None), dict):
            continue
        annotations = content.get('annotations', [])
        changes = [change for change in (_complete_crowds(annotations), _number(api, annotations)) if change]
        if changes:
            logger.info(f'In the annotations of {type(metric).__name__}, {" and ".join(changes)}.')


def _complete_crowds(annotations: list[dict[str, Any]]) -> str:
    lacking = [annotation for annotation in annotations if annotation.get('iscrowd') is None]
    for annotation in lacking:
        annotation['iscrowd'] = 0
    return f'{len(lacking)} without "iscrowd" count as single objects' if lacking else ''


def _number(api: Any, annotations: list[dict[str, Any]]) -> str:
    """Number annotations from 1 if one has an id that pycocotools cannot mark."""
    if all(type(annotation['id']) is int and annotation['id'] > 0 for annotation in annotations):
        return ''
    for number, annotation in enumerate(annotations, 1):
        annotation['id'] = number
    api.anns = {annotation['id']: annotation for annotation in annotations}
    return 'ids are numbered from 1, as an object of id 0 is never counted'
