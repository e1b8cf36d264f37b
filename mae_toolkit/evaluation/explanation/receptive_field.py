"""The effective receptive field: which pixels a position of a feature map depends on, and how strongly."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.modes import evaluating
from mae_toolkit.models.encoders import Encoder

SHARES = (0.5, 0.95)


@dataclass(frozen=True, eq=False)
class ReceptiveField:
    """Where the input counts for the center position of a feature map.

    Attributes:
        gradient: (H, W) float64, the root mean square, over images, of the gradient at each pixel.
        center: Row and column of the middle of the position, in pixels.
        stride: Pixels per position.
        images: How many images were averaged.
    """

    gradient: np.ndarray
    center: tuple[float, float]
    stride: int
    images: int

    def radius(self, share: float) -> float:
        """Return the radius, in pixels, of the circle around the center that holds a share of the gradient."""
        rows, columns = np.indices(self.gradient.shape) + 0.5  # the middles of the pixels
        distance = np.hypot(rows - self.center[0], columns - self.center[1]).ravel()
        order = distance.argsort(kind='stable')
        return float(distance[order][_find_share(self.gradient.ravel()[order], share)])

    def area(self, share: float) -> int:
        """Return the smallest number of pixels that holds a share of the gradient."""
        return _find_share(np.sort(self.gradient.ravel())[::-1], share) + 1


def measure_receptive_field(encoder: Encoder, batches: Iterable[Tensor], level: int, seed: int = 0) -> ReceptiveField:
    """Measure the effective receptive field of the center position of a level (Luo et al., arXiv:1701.04128).

    As there, a gradient is set at the center of the map alone and propagated to the pixels. All channels of the
    position get it with random signs: where a layer norm comes last, the sum of the channels is constant, and equal
    signs would measure nothing. The squares of the gradients, summed over the channels of the image and averaged over
    images, estimate how much the features change with each pixel; their root is returned.

    Args:
        encoder: The encoder.
        batches: Images (B, C, H, W) of one size, on its device.
        level: Level, counted from 1 for the finest.
        seed: Seed of the signs.

    Returns:
        The field.

    Raises:
        UserError: If there are no images, they have several sizes, or the features do not depend on the images.
    """
    generator = torch.Generator().manual_seed(seed)
    total, images, grid = None, 0, (0, 0)
    for imgs in batches:
        squares, grid = _square_gradients(encoder, imgs, level, generator)
        if total is not None and total.shape != squares.shape:
            raise UserError('The images have several sizes; resize them to one to average over them.')
        total = squares if total is None else total + squares
        images += len(imgs)
    if total is None:
        raise UserError('There are no images to average over.')
    gradient = (total / images).sqrt().cpu().numpy()
    if not gradient.sum() > 0 or not np.isfinite(gradient).all():
        raise UserError('The features do not depend on the images: the gradient is zero or not finite.')
    stride = encoder.out_strides[level - 1]
    return ReceptiveField(gradient, ((grid[0] // 2 + 0.5) * stride, (grid[1] // 2 + 0.5) * stride), stride, images)


def _square_gradients(
    encoder: Encoder, imgs: Tensor, level: int, generator: torch.Generator
) -> tuple[Tensor, tuple[int, int]]:
    """Return squared gradients (H, W), summed over images and their channels, and rows and columns of the map."""
    with evaluating(encoder), torch.enable_grad():
        x = imgs.detach().clone().requires_grad_()
        features = encoder.encode(x).maps[level - 1]  # (B, C, h, w)
        rows, columns = features.shape[-2:]
        center = features[:, :, rows // 2, columns // 2]  # (B, C)
        signs = torch.randint(0, 2, center.shape, generator=generator).mul(2).sub(1).to(center)
        (gradient,) = torch.autograd.grad((center * signs).sum(), x)
    return gradient.double().square().sum((0, 1)), (rows, columns)


def _find_share(values: np.ndarray, share: float) -> int:
    """Return the index of the first value at which the running sum reaches a share of the whole."""
    sums = values.cumsum()
    return int(np.searchsorted(sums, share * sums[-1] * (1 - 1e-12)))
