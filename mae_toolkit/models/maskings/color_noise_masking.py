"""Masks of filtered noise."""

import math
from typing import Any

import torch
from torch import Tensor

from mae_toolkit.errors import UserError
from mae_toolkit.models.maskings.masking import Masking
from mae_toolkit.registry import MODELS

COLORS = ('red', 'green', 'blue', 'purple')


@MODELS.register_module()
class ColorNoiseMasking(Masking):
    """Masking that hides the cells where filtered noise is highest (ColorMAE, arXiv:2407.13036, section 3).

    ``'red'`` noise has low frequencies and hides large patches of cells, ``'blue'`` noise high ones and hides evenly
    scattered cells; ``'green'`` noise has the frequencies in between, ``'purple'`` all others.

    Args:
        color: ``'red'``, ``'green'``, ``'blue'`` or ``'purple'``.
        fine: Standard deviation of the narrower of two Gaussian filters, in cells. Blue noise is what it removes.
        coarse: Standard deviation of the wider filter. Red noise is what it passes, green noise the difference of both.
        **kwargs: See :class:`Masking`.

    Raises:
        UserError: If the color is unknown, or the filters are not in this order.
    """

    def __init__(self, color: str = 'green', fine: float = 0.7, coarse: float = 1.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if color not in COLORS:
            raise UserError(f'color={color!r} must be one of {", ".join(COLORS)}.')
        if not 0 < fine < coarse:
            raise UserError(f'fine={fine} must be greater than 0 and less than coarse={coarse}.')
        self.color, self.fine, self.coarse = color, fine, coarse

    def score(self, imgs: Tensor, h: int, w: int) -> Tensor:
        """Draw and filter noise (B, h, w)."""
        margin = math.ceil(3 * self.coarse)
        noise = torch.randn(len(imgs), h + 2 * margin, w + 2 * margin, device=imgs.device)
        white = noise[:, margin : margin + h, margin : margin + w]
        fine, coarse = (blur(noise, sigma, margin) for sigma in (self.fine, self.coarse))
        filtered = {'red': coarse, 'blue': white - fine, 'green': fine - coarse, 'purple': white - fine + coarse}
        return filtered[self.color]


def blur(x: Tensor, sigma: float, margin: int) -> Tensor:
    """Blur maps by a Gaussian and cut off a margin.

    Args:
        x: (B, h + 2*margin, w + 2*margin).
        sigma: Standard deviation of the Gaussian, in cells.
        margin: Cells on each side that are cut off.

    Returns:
        (B, h, w).
    """
    rows, columns = (_gaussian_weights(n - 2 * margin, n, sigma, margin, x.device) for n in x.shape[1:])
    return rows @ x @ columns.T


def _gaussian_weights(n: int, length: int, sigma: float, margin: int, device: torch.device) -> Tensor:
    """Make the weights (n, length) by which a Gaussian filter sums cells; each row is centered on its own cell."""
    distance = torch.arange(length, device=device) - margin - torch.arange(n, device=device).unsqueeze(1)
    weights = torch.exp(-0.5 * (distance / sigma) ** 2)
    return weights / weights.sum(1, keepdim=True)
