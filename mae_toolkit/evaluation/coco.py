"""Evaluators that measure with pycocotools: repaired annotations, and prints that go into the log."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from logging import Logger, LogRecord
from typing import Any

from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger

# MMDetection's error if nothing was predicted; the metrics are reported as zero then, with a warning of ours.
EMPTY = 'The testing results of the whole dataset is empty'


@contextmanager
def log_prints(logger: Logger) -> Iterator[None]:
    """Write what is printed in a ``with`` block into the log, as one record; pycocotools prints 20 lines and more.

    Args:
        logger: The logger, whose console may leave the record out.
    """
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            yield
    finally:
        if printed.getvalue().strip():
            logger.info(f'Printed: {printed.getvalue().strip()}')


class LoggedEvaluator(Evaluator):
    """Evaluator that writes what its metrics print into the log, and no error if nothing was predicted."""

    def evaluate(self, size: int) -> dict[str, Any]:
        """Compute the metrics.

        Args:
            size: Number of images.
        """
        logger = MMLogger.get_current_instance()
        logger.addFilter(_is_no_repetition)
        try:
            with log_prints(logger):
                return super().evaluate(size)
        finally:
            logger.removeFilter(_is_no_repetition)


def _is_no_repetition(record: LogRecord) -> bool:
    return not record.getMessage().startswith(EMPTY)


def log_evaluation(evaluator: Evaluator) -> Evaluator:
    """Return an evaluator that writes what pycocotools prints into the log; others stay as they are.

    Args:
        evaluator: The evaluator.
    """
    with_coco = any(hasattr(metric, '_coco_api') for metric in evaluator.metrics)
    return LoggedEvaluator(evaluator.metrics) if with_coco and type(evaluator) is Evaluator else evaluator


def repair_annotations(evaluator: Evaluator, logger: Logger) -> None:
    """Repair, in memory, the annotations of evaluators that measure with pycocotools.

    pycocotools marks a detected object by its id, so it never counts an object of id 0 and cannot handle ids that are
    not numbers; and it fails on annotations without ``iscrowd``. Such ids are replaced by 1, 2, 3, ..., and a missing
    ``iscrowd`` by 0, a single object.

    Args:
        evaluator: The evaluator. Metrics without annotations in COCO's format are not changed.
        logger: Logger that gets one line for each changed metric.
    """
    for metric in evaluator.metrics:
        api = getattr(metric, '_coco_api', None)
        content = getattr(api, 'dataset', None)
        if not isinstance(content, dict) or not isinstance(getattr(api, 'anns', None), dict):
            continue
        annotations = content.get('annotations', [])
        changes = [change for change in (_complete_crowds(annotations), _renumber(api, annotations)) if change]
        if changes:
            logger.info(f'In the annotations of {type(metric).__name__}, {" and ".join(changes)}.')


def _complete_crowds(annotations: list[dict[str, Any]]) -> str:
    """Set a missing ``iscrowd`` to 0, and say how many there were."""
    incomplete = [annotation for annotation in annotations if annotation.get('iscrowd') is None]
    for annotation in incomplete:
        annotation['iscrowd'] = 0
    return f'{len(incomplete)} without "iscrowd" count as single objects' if incomplete else ''


def _renumber(api: Any, annotations: list[dict[str, Any]]) -> str:
    """Number the annotations from 1 if one has an id that pycocotools cannot mark, and say so."""
    if all(type(annotation['id']) is int and annotation['id'] > 0 for annotation in annotations):
        return ''
    for number, annotation in enumerate(annotations, 1):
        annotation['id'] = number
    api.anns = {annotation['id']: annotation for annotation in annotations}
    return 'ids are numbered from 1, as an object of id 0 is never counted'
