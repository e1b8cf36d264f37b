"""A loss on the spectra of pictures."""

import torch
from torch import Tensor

from mae_toolkit.errors import UserError
from mae_toolkit.models.losses.picture_loss import PictureLoss
from mae_toolkit.models.targets.target import Target
from mae_toolkit.registry import MODELS


@MODELS.register_module()
class FocalFrequencyLoss(PictureLoss):
    """Squared difference of the spectra of two pictures, weighted most at the frequencies that differ most.

    The loss is that of Jiang et al. (arXiv:2012.12821, section 3, equation 8). The transform is orthonormal, as in the
    official code: without the weights, the loss is the mean squared error over the whole picture. All pixels are
    counted, not the predicted cells alone, so that the fewer cells are predicted, the smaller is the loss.

    Args:
        target: What is predicted, see :class:`PictureLoss`.
        alpha: Exponent of the weights; 0 weights nothing.
        patch_factor: Pieces per side of the picture that have spectra of their own; 1 for the whole picture.
        weight: Factor in the sum of the losses of an objective.

    Raises:
        UserError: If ``alpha`` is negative or ``patch_factor`` below 1.
    """

    def __init__(self, target: Target, alpha: float = 1.0, patch_factor: int = 1, weight: float = 1.0) -> None:
        super().__init__(target, weight)
        if alpha < 0 or patch_factor < 1:
            raise UserError(
                f'FocalFrequencyLoss: alpha={alpha} must be 0 or more, patch_factor={patch_factor} 1 or more.'
            )
        self.alpha, self.patch_factor = alpha, patch_factor

    def compare(self, picture: Tensor, original: Tensor, predict: Tensor) -> Tensor:
        """Average the weighted squared difference over frequencies, channels and pieces.

        Raises:
            UserError: If the pieces do not divide the pictures.
        """
        pieces = self._split(picture - original)  # the transform is linear
        spectrum = torch.fft.fft2(pieces, norm='ortho')
        distance = spectrum.real.square() + spectrum.imag.square()  # (B, C, p, p, H/p, W/p)
        weights = distance.detach() ** (self.alpha / 2)
        weights = weights / weights.amax((-2, -1), keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
        return (weights * distance).mean()

    def _split(self, x: Tensor) -> Tensor:
        """Split pictures into pieces: (B, C, H, W) -> (B, C, p, p, H/p, W/p)."""
        p = self.patch_factor
        if x.shape[-2] % p or x.shape[-1] % p:
            raise UserError(
                f'FocalFrequencyLoss: patch_factor={p} does not divide pictures of {x.shape[-2]} x {x.shape[-1]} '
                'pixels: choose one that divides both sides.'
            )
        return x.unflatten(-1, (p, -1)).unflatten(-3, (p, -1)).transpose(-3, -2)
