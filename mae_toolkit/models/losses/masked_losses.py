"""Distances per position, averaged over the predicted cells."""

from torch.nn.functional import cosine_similarity, smooth_l1_loss

from mae_toolkit.models.losses.loss import MaskedLoss
from mae_toolkit.registry import MODELS


@MODELS.register_module()
class MaskedL2Loss(MaskedLoss):
    """Mean squared error (MAE, arXiv:2111.06377, section 3)."""

    def distance(self, pred, target):
        """Squared difference, averaged over channels."""
        return (pred - target).square().mean(1, keepdim=True)


@MODELS.register_module()
class MaskedL1Loss(MaskedLoss):
    """Mean absolute error (SimMIM, arXiv:2111.09886, section 3.4)."""

    def distance(self, pred, target):
        """Absolute difference, averaged over channels."""
        return (pred - target).abs().mean(1, keepdim=True)


@MODELS.register_module()
class MaskedSmoothL1Loss(MaskedLoss):
    """Squared below ``beta``, linear above (Fast R-CNN, arXiv:1504.08083, equation 3).

    Args:
        beta (float): Where the two meet, in units of the target.
        weight (float): Factor in the sum of losses.
    """

    def __init__(self, beta=1.0, weight=1.0):
        super().__init__(weight)
        self.beta = beta

    def distance(self, pred, target):
        """Smooth absolute difference, averaged over channels."""
        return smooth_l1_loss(pred, target, reduction='none', beta=self.beta).mean(1, keepdim=True)


@MODELS.register_module()
class MaskedCosineLoss(MaskedLoss):
    """Two less twice the cosine of the angle between features: the squared distance of unit vectors (MILAN,
    arXiv:2208.06049, equation 3).
    """

    def distance(self, pred, target):
        """From 0 (the same direction) to 4."""
        return 2 - 2 * cosine_similarity(pred, target, dim=1).unsqueeze(1)
