"""How often the right class is among the likeliest."""

import torch
from mmengine.evaluator import BaseMetric

from mae_toolkit.errors import UserError
from mae_toolkit.registry import METRICS

UNREAD = -1  # in place of the rank of an image that could not be read


@METRICS.register_module()
class Accuracy(BaseMetric):
    """Per cent of the images whose class is among the k likeliest, as ``accuracy/top1`` and so on.

    Of equal scores the class counts as the least likely, so that a network without an opinion is never right. Images
    that others stand in for, as they could not be read, are left out.

    Args:
        topk (tuple[int, ...]): Each k; one beyond the number of classes is left out.
        **kwargs: As of MMEngine's ``BaseMetric``.

    Raises:
        UserError: If a k is no number of classes, or no image could be read.
    """

    default_prefix = 'accuracy'

    def __init__(self, topk=(1, 5), **kwargs):
        super().__init__(**kwargs)
        self.topk = (topk,) if isinstance(topk, int) else tuple(topk)
        if not self.topk or not all(isinstance(k, int) and k > 0 for k in self.topk):
            raise UserError(f'Accuracy: topk={topk!r} are numbers of classes, 1 or more.')

    def process(self, data_batch, data_samples):
        """Note for every image how many classes are at least as likely as its own, and how many there are.

        Args:
            data_batch (dict): With ``labels`` (B,) and ``replaced``.
            data_samples (list[Tensor]): Scores (K,) of each image.
        """
        scores = torch.stack(list(data_samples)).float().cpu()  # (B, K)
        own = scores.gather(1, data_batch['labels'].cpu()[:, None])  # (B, 1)
        above = (~(scores < own)).sum(1) - 1  # what is not a number is less than nothing
        replaced = data_batch.get('replaced') or [False] * len(scores)
        ranks = [UNREAD if lost else int(rank) for rank, lost in zip(above, replaced, strict=True)]
        self.results += [(rank, scores.shape[1]) for rank in ranks]

    def compute_metrics(self, results):
        """Per cent per k."""
        ranks = torch.tensor([rank for rank, _ in results if rank != UNREAD])
        if not len(ranks):
            raise UserError('No image could be read to evaluate: give the folder of held-out images.')
        classes = max(count for _, count in results)
        return {f'top{k}': 100 * (ranks < k).double().mean().item() for k in self.topk if k <= classes}
