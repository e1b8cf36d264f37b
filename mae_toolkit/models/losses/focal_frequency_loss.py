"""Spectra compared."""

import torch

from mae_toolkit.errors import UserError
from mae_toolkit.models.losses.picture_loss import PictureLoss
from mae_toolkit.registry import MODELS


@MODELS.register_module()
class FocalFrequencyLoss(PictureLoss):
    """Squared differences of the spectra of two pictures, those weighted most that differ most (Jiang et al.,
    arXiv:2012.12821, section 3, equation 8).

    The transform is orthonormal, as in the official code: without the weights, the loss is the mean squared error over
    the whole picture. It thus counts all pixels, not the predicted cells alone, and is the smaller the fewer these are.

    Args:
        target (Target), weight (float): As of :class:`PictureLoss`.
        alpha (float): Exponent of the weights; 0 weights nothing.
        patch_factor (int): Pieces per side that have spectra of their own; 1 for that of the whole picture.

    Raises:
        UserError: If alpha is negative or there is no piece.
    """

    def __init__(self, target, alpha=1.0, patch_factor=1, weight=1.0):
        super().__init__(target, weight)
        if alpha < 0 or patch_factor < 1:
            raise UserError(
                f'FocalFrequencyLoss: alpha={alpha} is 0 or more, and patch_factor={patch_factor} 1 or more.'
            )
        self.alpha, self.patch_factor = alpha, patch_factor

    def compare(self, picture, original, predict):
        """Mean over frequencies, channels and pieces of weight times squared difference.

        Raises:
            UserError: If the pieces do not divide the pictures.
        """
        pieces = self._pieces(picture - original)  # the transform is linear
        spectrum = torch.fft.fft2(pieces, norm='ortho')
        distance = spectrum.real.square() + spectrum.imag.square()  # (B, C, p, p, H/p, W/p)
        weights = distance.detach() ** (self.alpha / 2)
        weights = weights / weights.amax((-2, -1), keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
        return (weights * distance).mean()

    def _pieces(self, x):
        """(B, C, H, W) -> (B, C, p, p, H/p, W/p)."""
        p = self.patch_factor
        if x.shape[-2] % p or x.shape[-1] % p:
            raise UserError(
                f'FocalFrequencyLoss: patch_factor={p} does not divide pictures of {x.shape[-2]} x {x.shape[-1]} '
                'pixels: choose one that divides both sides.'
            )
        return x.unflatten(-1, (p, -1)).unflatten(-3, (p, -1)).transpose(-3, -2)
