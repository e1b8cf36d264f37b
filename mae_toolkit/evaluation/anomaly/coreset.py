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
    section 3.2 and algorithm 1). A vector that is less than half as far from its nearest chosen one as that is from the
    new one cannot be nearer to the new one, so that its distance is not computed: the choice is the same.

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
    nearest = (points - points[first]).square().sum(1)  # squared, (N,)
    owner = torch.zeros(len(points), dtype=torch.long, device=points.device)  # which chosen one is nearest
    centers = points.new_empty(count, points.shape[1])
    centers[0] = points[first]
    for number in tqdm(range(1, count), desc='choosing patches', unit='patch', delay=1, disable=not show_progress):
        new = int(nearest.argmax())
        if not nearest[new] > 0:  # all others are copies of chosen ones
            break
        centers[number] = points[new]
        to_centers = (centers[:number] - points[new]).square().sum(1)
        candidates = (to_centers[owner] < 4 * nearest).nonzero()[:, 0]
        distances = (points[candidates] - points[new]).square().sum(1)
        closer = distances < nearest[candidates]
        nearest[candidates[closer]], owner[candidates[closer]] = distances[closer], number
        nearest[new], owner[new] = 0, number
        chosen.append(new)
    return torch.tensor(chosen, device=vectors.device)


def project(vectors: Tensor, seed: int) -> Tensor:
    """Project vectors (N, D) to as few dimensions as keep their distances; return them unchanged if D is no more."""
    dimensions = int(johnson_lindenstrauss_min_dim(len(vectors), eps=EPS))
    if dimensions >= vectors.shape[1]:
        return vectors
    projection = SparseRandomProjection(dimensions, random_state=seed, dense_output=True).fit(vectors[:1].cpu().numpy())
    matrix = torch.from_numpy(projection.components_.toarray()).to(vectors)  # (dimensions, D)
    return vectors @ matrix.T
