"""Top-k accuracy of image classification."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor

from mae_toolkit.errors import UserError
from mae_toolkit.registry import METRICS

UNREADABLE = -1  # in place of the rank of an image that could not be read


@METRICS.register_module()
class Accuracy(BaseMetric):
    """Percentage of images whose class is among the k with the highest scores, as ``accuracy/top1``, ``accuracy/top5``.

    Of equal scores, that of the true class counts as the lowest, so that a network that gives all classes the same
    score is never right. Images that could not be read, and that others replace in the batch, are left out.

    Args:
        topk: The values of k. Those beyond the number of classes are left out.
        **kwargs: Arguments of MMEngine's ``BaseMetric``.

    Raises:
        UserError: If a k is not a positive whole number, or none of the images could be read.
    """

    default_prefix = 'accuracy'

    def __init__(self, topk: int | Sequence[int] = (1, 5), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.topk = (topk,) if isinstance(topk, int) else tuple(topk)
        if not self.topk or not all(isinstance(k, int) and k > 0 for k in self.topk):
            raise UserError(f'Accuracy: topk={topk!r} must be numbers of classes, 1 or more.')

    def process(self, data_batch: dict[str, Any], data_samples: Sequence[Tensor]) -> None:
        """Store, for every image of a batch, how many other classes score at least as high as its own.

        Args:
            data_batch: The batch, with ``labels`` (B,) and possibly ``replaced``, as of :func:`image_collate`.
            data_samples: Scores (K,) of each image.
        """
        scores = torch.stack(list(data_samples)).float().cpu()  # (B, K)
        own = scores.gather(1, data_batch['labels'].cpu()[:, None])  # (B, 1)
        above = (~(scores < own)).sum(1) - 1  # NaN counts as higher than any score
        replaced = data_batch.get('replaced') or [False] * len(scores)
        ranks = [UNREADABLE if lost else int(rank) for rank, lost in zip(above, replaced, strict=True)]
        self.results += [(rank, scores.shape[1]) for rank in ranks]

    def compute_metrics(self, results: list[tuple[int, int]]) -> dict[str, float]:
        """Compute the accuracy in percent for each k.

        Args:
            results: Rank of the true class, counted from 0, and number of classes of each image.
        """
        ranks = torch.tensor([rank for rank, _ in results if rank != UNREADABLE])
        if not len(ranks):
            raise UserError('No image could be read for evaluation: set the folder of held-out images.')
        num_classes = max(count for _, count in results)
        return {f'top{k}': 100 * (ranks < k).double().mean().item() for k in self.topk if k <= num_classes}
