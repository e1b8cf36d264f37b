"""Uniformly random masking."""

import torch
from torch import Tensor

from mae_toolkit.models.maskings.masking import Masking
from mae_toolkit.registry import MODELS


@MODELS.register_module()
class RandomMasking(Masking):
    """Masking in which every set of cells of the right size is equally likely (MAE, arXiv:2111.06377, section 3).

    The arguments are those of :class:`Masking`.
    """

    def score(self, imgs: Tensor, h: int, w: int) -> Tensor:
        """Draw independent uniform scores (B, h, w)."""
        return torch.rand(imgs.shape[0], h, w, device=imgs.device)
