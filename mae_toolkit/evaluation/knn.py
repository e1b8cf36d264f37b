"""Classification by the nearest neighbors."""

import torch
from torch.nn.functional import normalize

from mae_toolkit.errors import UserError

CHUNK = 1024  # test images compared at once


def compute_knn_accuracy(train, train_labels, test, test_labels, k=20, temperature=0.07):
    """Share of the test images that their nearest training images classify right.

    Neighbors are the nearest by cosine, and vote with exp(cosine / temperature) (Wu et al., arXiv:1805.01978,
    section 3.4).

    Args:
        train (Tensor): (N, C) features.
        train_labels (Tensor): (N,) int64.
        test (Tensor): (M, C) features.
        test_labels (Tensor): (M,) int64.
        k (int): Neighbors that vote; all, if there are fewer.
        temperature (float): Of the votes.

    Returns:
        float: Between 0 and 1.

    Raises:
        UserError: If there is nothing to compare.
    """
    if not len(train) or not len(test):
        raise UserError(f'{len(train)} training and {len(test)} test images: nearest neighbors need some of both.')
    known = normalize(train.double()).T  # (C, N)
    parts = [(normalize(some.double()) @ known).topk(min(k, len(train)), dim=1) for some in test.split(CHUNK)]
    cosine, index = (torch.cat(values) for values in zip(*parts, strict=True))  # (M, k)
    votes = (cosine / temperature).exp()  # (M, k)
    scores = torch.zeros(len(test), int(train_labels.max()) + 1, dtype=votes.dtype)
    scores.scatter_add_(1, train_labels[index], votes)
    return (scores.argmax(1) == test_labels).double().mean().item()
