"""Uniformly random masking."""

import torch

from mae_toolkit.models.maskings.masking import Masking
from mae_toolkit.registry import MODELS


@MODELS.register_module()
class RandomMasking(Masking):
    """Every set of cells of the right size is equally likely (MAE, arXiv:2111.06377, section 3)."""

    def score(self, imgs, h, w):
        """Independent uniform scores (B, h, w)."""
        return torch.rand(imgs.shape[0], h, w, device=imgs.device)
