"""Choosing few vectors that stand for many."""

from __future__ import annotations

import torch
from sklearn.random_projection import SparseRandomProjection, johnson_lindenstrauss_min_dim
from torch import Tensor
from tqdm import tqdm

EPS = 0.9  # distortion of distances that a random projection may have, as PatchCore has it


def choose_coreset(vectors: Tensor, count: int, seed: int = 0, show_progress: bool = True) -> Tensor:
    """Choose vectors greedily: each is the one that is farthest from all that were chosen before.

    Distances are those of a sparse random projection, where it has fewer dimensions (PatchCore, arXiv:2106.08265,
    section 3.2 and algorithm 1).

    Args:
        vectors: (N, D).
        count: How many are chosen; all if there are no more.
        seed: Seed of the projection and of the first vector.
        show_progress: Show a bar where it takes more than a second.

    Returns:
        Indices in the order in which they were chosen; fewer than ``count`` if the rest are copies of them.
    """
    if count >= len(vectors):
        return torch.arange(len(vectors), device=vectors.device)
    points = project(vectors, seed)
    generator = torch.Generator().manual_seed(seed)
    first = int(torch.randint(len(points), (1,), generator=generator))
    chosen = [first]
    nearest = _measure(points, first)  # (N,)
    for _ in tqdm(range(1, count), desc='choosing patches', unit='patch', delay=1, disable=not show_progress):
        new = int(nearest.argmax())
        if not nearest[new] > 0:  # all others are copies of chosen ones
            break
        nearest = torch.minimum(nearest, _measure(points, new))
        chosen.append(new)
    return torch.tensor(chosen, device=vectors.device)


def _measure(points: Tensor, center: int) -> Tensor:
    """Measure the distances (N,) of points (N, D) to one of them, by differences: to itself and its copies it is 0.

    One kernel reads the points once; subtracting, squaring and summing in turn takes several times as long.
    """
    return torch.cdist(points, points[center : center + 1], compute_mode='donot_use_mm_for_euclid_dist')[:, 0]


def project(vectors: Tensor, seed: int) -> Tensor:
    """Project vectors (N, D) to as few dimensions as keep their distances; return them unchanged if D is no more."""
    dimensions = int(johnson_lindenstrauss_min_dim(len(vectors), eps=EPS))
    if dimensions >= vectors.shape[1]:
        return vectors
    projection = SparseRandomProjection(dimensions, random_state=seed, dense_output=True).fit(vectors[:1].cpu().numpy())
    matrix = torch.from_numpy(projection.components_.toarray()).to(vectors)  # (dimensions, D)
    return vectors @ matrix.T
