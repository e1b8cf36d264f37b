"""Centres of many points, by k-means."""

import torch
from tqdm import tqdm

from mae_toolkit.errors import UserError
from mae_toolkit.models.targets.codebook_target import nearest


def kmeans(points, count, iterations=30, seed=0):
    """Lloyd's algorithm (IEEE Transactions on Information Theory 28, 1982), from points drawn at random.

    A centre that is nearest to no point goes to one of the points that are farthest from theirs, so that all are used
    where the points allow it.

    Args:
        points (Tensor): (N, D).
        count (int): Centres.
        iterations (int): At most; fewer if no point changes its centre any more.
        seed (int): Of the points from which it starts.

    Returns:
        Tensor: Centres (count, D).

    Raises:
        UserError: If there are fewer points than centres.
    """
    if len(points) < count:
        raise UserError(f'{len(points)} points have no {count} centres: give more points, or ask for fewer centres.')
    start = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))[:count]
    centres, before = points[start.to(points.device)], None
    for _ in tqdm(range(iterations), desc='k-means', unit='round'):
        codes = nearest(points, centres)
        if before is not None and torch.equal(codes, before):
            break
        centres, before = _moved(points, codes, count), codes
    return centres


def squared_distances(points, centres, codes):
    """Squared distance (N,) of points (N, D) from their centres."""
    parts = zip(points.split(2**14), codes.split(2**14), strict=True)  # memory for a part only
    return torch.cat([(part - centres[chosen]).square().sum(1) for part, chosen in parts])


def _moved(points, codes, count):
    """Means (count, D) of the points of each code; for codes of none, the points farthest from their means."""
    members = torch.bincount(codes, minlength=count)
    centres = points.new_zeros(count, points.shape[1]).index_add_(0, codes, points)
    centres /= members.clamp_min(1).unsqueeze(1)
    unused = (members == 0).nonzero().flatten()
    if len(unused):
        far = squared_distances(points, centres, codes).topk(len(unused)).indices
        centres[unused] = points[far]
    return centres
