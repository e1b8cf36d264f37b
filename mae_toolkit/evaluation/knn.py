"""Classification by nearest neighbors."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mae_toolkit.errors import UserError

CHUNK = 1024  # test images compared at once


def compute_knn_accuracy(
    train: Tensor,
    train_labels: Tensor,
    test: Tensor,
    test_labels: Tensor,
    k: int = 20,
    temperature: float = 0.07,
) -> float:
    """Compute the fraction of test images that their nearest training images classify correctly.

    The k neighbors with the greatest cosine similarity vote with weight exp(cosine / temperature) (Wu et al.,
    arXiv:1805.01978, section 3.4).

    Args:
        train: Training features (N, C).
        train_labels: Class indices (N,), int64.
        test: Test features (M, C).
        test_labels: Class indices (M,), int64.
        k: Number of neighbors that vote; all, if there are fewer training images.
        temperature: Temperature of the votes. The lower it is, the more the nearest neighbor decides.

    Returns:
        Accuracy between 0 and 1.

    Raises:
        UserError: If there are no training or no test images.
    """
    if not len(train) or not len(test):
        raise UserError(f'{len(train)} training and {len(test)} test images: nearest neighbors need some of both.')
    train_directions = normalize(train.double()).T  # (C, N)
    parts = [
        (normalize(part.double()) @ train_directions).topk(min(k, len(train)), dim=1) for part in test.split(CHUNK)
    ]
    cosine, index = (torch.cat(values) for values in zip(*parts, strict=True))  # (M, k)
    votes = (cosine / temperature).exp()  # (M, k)
    scores = torch.zeros(len(test), int(train_labels.max()) + 1, dtype=votes.dtype)
    scores.scatter_add_(1, train_labels[index], votes)
    return (scores.argmax(1) == test_labels).double().mean().item()
