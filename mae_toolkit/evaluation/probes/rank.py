"""In how many directions vectors and positions differ."""

from __future__ import annotations

import torch
from torch import Tensor

from mae_toolkit.evaluation.effective_rank import compute_effective_rank
from mae_toolkit.evaluation.probes.data import ProbeData, ProbeResult

ROWS = 2048  # most rows whose rank is computed: it grows with their number


def draw_rows(features: Tensor, count: int, seed: int) -> Tensor:
    """Draw vectors of images, or of positions of maps.

    Args:
        features: (N, C), or (N, C, h, w).
        count: How many; all, if there are fewer.
        seed: Seed of the choice.

    Returns:
        (count, C) float32.
    """
    generator = torch.Generator().manual_seed(seed)
    if features.ndim == 2:
        return features[torch.randperm(len(features), generator=generator)[:count]].float()
    positions = features.shape[2] * features.shape[3]
    chosen = torch.randperm(len(features) * positions, generator=generator)[:count]
    return features.flatten(2)[chosen // positions, :, chosen % positions].float()


def run_rank(data: ProbeData, rows: int = ROWS) -> ProbeResult:
    """Compute the effective rank (RankMe) of training images or of positions of their maps; labels are not needed.

    Args:
        data: Vectors or maps.
        rows: Most vectors, drawn at random; ranks of different numbers of vectors cannot be compared.
    """
    drawn = draw_rows(data.train.features, rows, data.seed)
    scores = {'rank': compute_effective_rank(drawn)}
    return ProbeResult(scores, scores, {'rows': len(drawn), 'channels': drawn.shape[1]})
