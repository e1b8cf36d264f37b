"""Centers of many points, by k-means."""

import torch
from tqdm import tqdm

from mae_toolkit.errors import UserError
from mae_toolkit.models.targets.codebook_target import find_nearest


def kmeans(points, count, iterations=30, seed=0):
    """Lloyd's algorithm (IEEE Transactions on Information Theory 28, 1982), from points drawn at random.

    A center that is nearest to no point goes to one of the points that are farthest from theirs, so that all are used
    where the points allow it.

    Args:
        points (Tensor): (N, D).
        count (int): Centers.
        iterations (int): At most; fewer if no point changes its center any more.
        seed (int): Of the points from which it starts.

    Returns:
        Tensor: Centers (count, D).

    Raises:
        UserError: If there are fewer points than centers.
    """
    if len(points) < count:
        raise UserError(f'{len(points)} points have no {count} centers: give more points, or ask for fewer centers.')
    start = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))[:count]
    centers, before = points[start.to(points.device)], None
    for _ in tqdm(range(iterations), desc='k-means', unit='round'):
        codes = find_nearest(points, centers)
        if before is not None and torch.equal(codes, before):
            break
        centers, before = _moved(points, codes, count), codes
    return centers


def squared_distances(points, centers, codes):
    """Squared distance (N,) of points (N, D) from their centers."""
    parts = zip(points.split(2**14), codes.split(2**14), strict=True)  # memory for a part only
    return torch.cat([(part - centers[chosen]).square().sum(1) for part, chosen in parts])


def _moved(points, codes, count):
    """Means (count, D) of the points of each code; for codes of none, the points farthest from their means."""
    members = torch.bincount(codes, minlength=count)
    centers = points.new_zeros(count, points.shape[1]).index_add_(0, codes, points)
    centers /= members.clamp_min(1).unsqueeze(1)
    unused = (members == 0).nonzero().flatten()
    if len(unused):
        far = squared_distances(points, centers, codes).topk(len(unused)).indices
        centers[unused] = points[far]
    return centers
