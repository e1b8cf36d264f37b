"""Reconstruction: errors of a masked autoencoder, in the units of the normal ones at each position."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mae_toolkit.evaluation.anomaly.methods.method import AnomalyMethod

PRIOR = 4  # images' worth of the variance of all positions, by which that of each one is steadied


class Reconstruction(AnomalyMethod):
    """Measure how many standard deviations the error of a position is above that of normal images.

    The variance of a position is averaged with that of all positions, which counts as much as four images: where normal
    images hardly differ, as on a plain background, a small error would else be a great anomaly.

    Args:
        per_position: Compare with the same position of normal images; with all positions if False, for images that do
            not show the same thing at the same place.
        seed: Not used: masks are drawn where the errors are computed.
    """

    reads = 'errors'
    least_images = 2
    needs_alignment = True

    def __init__(self, per_position: bool = True, seed: int = 0) -> None:
        self.per_position = per_position
        self.mean = self.deviation = torch.empty(0)
        self._added: list[Tensor] = []

    def add(self, maps: Tensor) -> None:
        """Take in errors (B, 1, h, w) of normal images."""
        self._added.append(maps[:, 0].double())

    def finish(self, show_progress: bool = True) -> None:
        """Compute mean and standard deviation of the errors."""
        errors = torch.cat(self._added)  # (N, h, w)
        self._added = []
        if self.per_position:
            variance = errors.var(0)
            steadied = (len(errors) * variance + PRIOR * variance.mean()) / (len(errors) + PRIOR)
            mean = errors.mean(0)
        else:
            steadied, mean = errors.var().expand(errors.shape[1:]), errors.mean().expand(errors.shape[1:])
        self.mean, self.deviation = mean.float().contiguous(), steadied.sqrt().clamp(min=1e-12).float().contiguous()

    def score(self, maps: Tensor) -> Tensor:
        """Normalize errors (B, 1, h, w) to (B, h, w)."""
        return (maps[:, 0] - self.mean) / self.deviation

    def state(self) -> dict[str, Tensor]:
        """Return mean and standard deviation of each position."""
        return {'mean': self.mean, 'deviation': self.deviation}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Set mean and standard deviation of each position."""
        self.mean, self.deviation = state['mean'], state['deviation']
