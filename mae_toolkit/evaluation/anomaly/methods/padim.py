"""PaDiM: a Gaussian of the features at each position."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.anomaly.methods.method import AnomalyMethod

REDUCTIONS = ('select', 'project')


class PaDiM(AnomalyMethod):
    """Measure the Mahalanobis distance to the normal features of the same position.

    Defard et al., arXiv:2011.08785, section 3. Images must show the same thing at the same place.

    Args:
        dimensions: Channels that are kept; all if there are no more.
        reduction: ``'select'`` draws channels, as in the paper; ``'project'`` multiplies by random orthonormal vectors
            (Kim et al., arXiv:2105.14737).
        regularization: What is added to the variances.
        seed: Seed of the channels or vectors.

    Raises:
        UserError: If an argument is out of its range.
    """

    least_images = 2
    needs_alignment = True

    def __init__(
        self, dimensions: int = 100, reduction: str = 'select', regularization: float = 0.01, seed: int = 0
    ) -> None:
        if dimensions < 1:
            raise UserError(f'dimensions={dimensions} must be 1 or more.')
        if reduction not in REDUCTIONS:
            raise UserError(f'reduction={reduction!r} must be one of {", ".join(REDUCTIONS)}.')
        if not regularization > 0:
            raise UserError(f'regularization={regularization} must be above 0: few images have singular covariances.')
        self.dimensions, self.reduction, self.regularization, self.seed = dimensions, reduction, regularization, seed
        self.matrix = self.mean = self.factor = torch.empty(0)
        self._count, self._sum, self._products = 0, torch.empty(0), torch.empty(0)

    def add(self, maps: Tensor) -> None:
        """Add maps (B, D, h, w) of normal images to the sums from which means and covariances follow."""
        if not self._count:
            self.matrix = self._draw(maps.shape[1]).to(maps)
        x = self._reduce(maps).double()  # (P, B, d)
        if not self._count:
            self._shift = x.mean(1, keepdim=True)  # near the mean, so that no digits are lost
            self._sum, self._products = x.new_zeros(x.shape[0], x.shape[2]), x.new_zeros(len(x), *x.shape[2:] * 2)
        x = x - self._shift
        self._sum += x.sum(1)
        self._products += x.mT @ x
        self._count += x.shape[1]

    def finish(self, show_progress: bool = True) -> None:
        """Compute the mean of each position, and the Cholesky factor of its covariance."""
        mean = self._sum / self._count  # (P, d)
        covariance = self._products - self._count * mean[:, :, None] * mean[:, None]
        covariance /= max(1, self._count - 1)
        covariance.diagonal(dim1=1, dim2=2).add_(self.regularization)
        self.factor = torch.linalg.cholesky(covariance).float()
        self.mean = (mean + self._shift[:, 0]).float()
        self._count, self._sum, self._products = 0, torch.empty(0), torch.empty(0)

    def score(self, maps: Tensor) -> Tensor:
        """Measure the Mahalanobis distance of each position: (B, D, h, w) to (B, h, w)."""
        x = self._reduce(maps) - self.mean[:, None]  # (P, B, d)
        whitened = torch.linalg.solve_triangular(self.factor, x.mT, upper=False)  # (P, d, B)
        return whitened.square().sum(1).sqrt().T.reshape(maps.shape[0], *maps.shape[2:])

    def state(self) -> dict[str, Tensor]:
        """Return the projection, the means and the factors of the covariances."""
        return {'matrix': self.matrix, 'mean': self.mean, 'factor': self.factor}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Set the projection, the means and the factors of the covariances."""
        self.matrix, self.mean, self.factor = state['matrix'], state['mean'], state['factor']

    def _draw(self, channels: int) -> Tensor:
        """Draw the matrix (D, d) that reduces the channels."""
        generator = torch.Generator().manual_seed(self.seed)
        count = min(self.dimensions, channels)
        if count == channels:
            return torch.eye(channels)
        if self.reduction == 'select':
            chosen = torch.randperm(channels, generator=generator)[:count].sort().values
            return torch.eye(channels)[:, chosen]
        return torch.linalg.qr(torch.randn(channels, count, generator=generator)).Q

    def _reduce(self, maps: Tensor) -> Tensor:
        """Reduce maps (B, D, h, w) to vectors (h*w, B, d)."""
        return maps.flatten(2).permute(2, 0, 1) @ self.matrix
