"""How many of the examples of each class are found, for classifiers and segmenters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor

from mae_toolkit.errors import UserError
from mae_toolkit.registry import METRICS


@METRICS.register_module()
class ClassRecall(BaseMetric):
    """Percentage of the images or pixels of each class that get this class, as ``recall/cat``.

    A class that is never found has 0, one without an example NaN. Images that could not be read, and labels beyond the
    classes, such as 255, are left out.
    """

    default_prefix = 'recall'

    def process(self, data_batch: Mapping[str, Any], data_samples: Sequence[Any]) -> None:
        """Count the examples of each class in a batch, and those that are found.

        Args:
            data_batch: The batch, of classifiers with ``labels`` (B,) and possibly ``replaced``.
            data_samples: Scores (K,) of each image; or MMSegmentation's dicts with ``pred_sem_seg`` and ``gt_sem_seg``.
        """
        count = len(self._list_classes())
        if isinstance(data_samples[0], Tensor):
            predicted = torch.stack(list(data_samples)).float().argmax(1).cpu().numpy()
            labels = data_batch['labels'].cpu().numpy()
            replaced = data_batch.get('replaced') or [False] * len(labels)
            pairs = zip(predicted, labels, replaced, strict=True)
            self.results += [_count(one, label, count) for one, label, lost in pairs if not lost]
            return
        for sample in data_samples:
            predicted, labels = (sample[name]['data'].cpu().numpy() for name in ('pred_sem_seg', 'gt_sem_seg'))
            self.results.append(_count(predicted, labels, count))

    def compute_metrics(self, results: list[tuple[dict[int, int], dict[int, int]]]) -> dict[str, float]:
        """Compute the recall of each class in percent.

        Args:
            results: Examples that are found and all examples, by class, of each image.
        """
        found: Counter[int] = sum((Counter(counts) for counts, _ in results), Counter())
        total: Counter[int] = sum((Counter(counts) for _, counts in results), Counter())
        return {
            name: 100 * found[i] / total[i] if total[i] else float('nan') for i, name in enumerate(self._list_classes())
        }

    def _list_classes(self) -> Sequence[str]:
        classes = (self.dataset_meta or {}).get('classes')
        if not classes:
            raise UserError('ClassRecall: the images have no names of classes.')
        return list(classes)


def _count(predicted: np.ndarray, labels: np.ndarray, classes: int) -> tuple[Counter[int], Counter[int]]:
    """Return the number of examples that are found, and of all examples, by class."""
    known = labels < classes
    return _count_values(labels[known & (predicted == labels)]), _count_values(labels[known])


def _count_values(values: np.ndarray) -> Counter[int]:
    numbers, counts = np.unique(values, return_counts=True)
    return Counter(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))
