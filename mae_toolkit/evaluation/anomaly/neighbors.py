"""Exact nearest neighbors among many vectors, in pieces that fit into memory."""

from __future__ import annotations

import torch
from torch import Tensor

PRODUCTS = 1 << 24  # distances that are held at once


def find_neighbors(queries: Tensor, bank: Tensor, count: int = 1) -> tuple[Tensor, Tensor]:
    """Find the nearest vectors of a bank by Euclidean distance.

    They are found by products of matrices, which lose digits where vectors nearly agree; the distances of those that
    were found are then computed from the differences.

    Args:
        queries: (Q, D).
        bank: (N, D).
        count: How many are found; all if there are fewer.

    Returns:
        Distances (Q, K) from the nearest on, and the indices (Q, K) of the vectors in the bank.
    """
    count = min(count, len(bank))
    half = bank.square().sum(1) / 2
    step = max(1, PRODUCTS // max(len(bank), count * bank.shape[1]))
    distances, indices = [], []
    for part in queries.split(step):
        # |q - b|^2 / 2 but for the term of q, which orders nothing
        products = torch.addmm(half, part, bank.T, alpha=-1)
        chosen = products.topk(count, dim=1, largest=False).indices if count > 1 else products.argmin(1, keepdim=True)
        exact = (part[:, None] - bank[chosen]).square().sum(2).sqrt()  # (q, K)
        order = exact.argsort(dim=1, stable=True)
        distances.append(exact.gather(1, order))
        indices.append(chosen.gather(1, order))
    return torch.cat(distances), torch.cat(indices)
