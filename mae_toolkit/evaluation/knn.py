"""Classification by nearest neighbors."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mae_toolkit.errors import UserError

CHUNK = 1024  # test images compared at once


def vote(cosines: Tensor, labels: Tensor, classes: int, k: int, temperature: float) -> Tensor:
    """Classify by the votes of the nearest neighbors, which weigh exp(cosine / temperature).

    This is what DINO and its successors measure (Wu et al., arXiv:1805.01978, section 3.4).

    Args:
        cosines: (M, K) of the neighbors, the greatest first.
        labels: Their classes (M, K).
        classes: Number of classes.
        k: How many of them vote.
        temperature: The lower it is, the more the nearest neighbor decides.

    Returns:
        Classes (M,); of equal votes the lower index.
    """
    nearest = cosines[:, :1]  # relative to it, so that low temperatures do not overflow
    votes = ((cosines[:, :k].double() - nearest) / temperature).exp()
    scores = torch.zeros(len(cosines), classes, dtype=votes.dtype, device=votes.device)
    return scores.scatter_add_(1, labels[:, :k], votes).argmax(1)


def compute_knn_accuracy(
    train: Tensor,
    train_labels: Tensor,
    test: Tensor,
    test_labels: Tensor,
    k: int = 20,
    temperature: float = 0.07,
) -> float:
    """Compute the fraction of test images that their nearest training images classify correctly.

    The k neighbors of greatest cosine similarity :func:`vote`, as in the probe ``knn``, which also chooses k and
    temperature. Cosines are computed in double precision: those of an untrained encoder hardly differ.

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
    predicted = vote(cosine, train_labels[index], int(train_labels.max()) + 1, k, temperature)
    return (predicted == test_labels).double().mean().item()
