"""The effective rank of features."""

from __future__ import annotations

import torch
from torch import Tensor


def compute_effective_rank(features: Tensor) -> float:
    """Compute in how many directions features differ: the exponential of the entropy of their singular values.

    This is RankMe (Garrido et al., arXiv:2210.02885, section 3.1): features that lie on one line have a rank of 1,
    features that spread evenly over r orthogonal directions have r. It falls when an encoder collapses, and needs no
    labels. It is at most the number of rows, so that only ranks of as many rows are comparable.

    Args:
        features: (N, C).

    Returns:
        The rank, 1 to min(N, C); 0 where all features are zero, NaN where one is not finite.
    """
    if not features.isfinite().all():
        return float('nan')
    values = torch.linalg.svdvals(features.double())
    shares = values / values.sum()
    shares = shares[shares > 0]  # none of zeros alone, whose shares are NaN
    return float((-(shares * shares.log()).sum()).exp()) if len(shares) else 0.0
