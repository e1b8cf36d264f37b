"""Masks of filtered noise."""

import math

import torch

from mae_toolkit.errors import UserError
from mae_toolkit.models.maskings.masking import Masking
from mae_toolkit.registry import MODELS

COLORS = ('red', 'green', 'blue', 'purple')


@MODELS.register_module()
class ColorNoiseMasking(Masking):
    """White noise, filtered, is hidden where it is highest (ColorMAE, arXiv:2407.13036, section 3).

    ``'red'`` keeps low frequencies (large patches of cells), ``'blue'`` high ones (evenly scattered cells), ``'green'``
    those between, ``'purple'`` the others than these.

    Args:
        color (str): One of the four.
        fine (float), coarse (float): Standard deviations, in cells, of the two Gaussian filters: red is what the coarse
            one passes, blue what the fine one takes away, green the difference of the two.
        **kwargs: As of :class:`Masking`.
    """

    def __init__(self, color='green', fine=0.7, coarse=1.5, **kwargs):
        super().__init__(**kwargs)
        if color not in COLORS:
            raise UserError(f'color={color!r} is none of {", ".join(COLORS)}.')
        if not 0 < fine < coarse:
            raise UserError(f'fine={fine} is greater than 0 and less than coarse={coarse}.')
        self.color, self.fine, self.coarse = color, fine, coarse

    def score(self, imgs, h, w):
        """Scores (B, h, w): filtered noise."""
        margin = math.ceil(3 * self.coarse)
        noise = torch.randn(len(imgs), h + 2 * margin, w + 2 * margin, device=imgs.device)
        white = noise[:, margin : margin + h, margin : margin + w]
        fine, coarse = (blurred(noise, sigma, margin) for sigma in (self.fine, self.coarse))
        filtered = {'red': coarse, 'blue': white - fine, 'green': fine - coarse, 'purple': white - fine + coarse}
        return filtered[self.color]


def blurred(x, sigma, margin):
    """x (B, h + 2 margin, w + 2 margin) under a Gaussian of so many cells, without the margin: (B, h, w)."""
    rows, columns = (_gaussian(n - 2 * margin, n, sigma, margin, x.device) for n in x.shape[1:])
    return rows @ x @ columns.T


def _gaussian(n, length, sigma, margin, device):
    """Weights (n, length) of the cells that a Gaussian filter sums, each row around its own cell."""
    distance = torch.arange(length, device=device) - margin - torch.arange(n, device=device).unsqueeze(1)
    weights = torch.exp(-0.5 * (distance / sigma) ** 2)
    return weights / weights.sum(1, keepdim=True)
