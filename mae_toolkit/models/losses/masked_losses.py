"""Distances per position, averaged over the predicted cells."""

from torch.nn.functional import cosine_similarity, cross_entropy, smooth_l1_loss

from mae_toolkit.errors import UserError
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


@MODELS.register_module()
class MaskedCrossEntropyLoss(MaskedLoss):
    """Cross-entropy of predicted scores of codes and the code of each position (BEiT, arXiv:2106.08254, equation 2).

    Args:
        label_smoothing (float): Share of the probability that is spread over all codes, from 0 to below 1
            (arXiv:1512.00567, section 7).
        weight (float): Factor in the sum of losses.
    """

    compares = ('codes',)

    def __init__(self, label_smoothing=0.0, weight=1.0):
        super().__init__(weight)
        if not 0 <= label_smoothing < 1:
            raise UserError(f'MaskedCrossEntropyLoss: label_smoothing={label_smoothing} is a share from 0 to below 1.')
        self.label_smoothing = label_smoothing

    def distance(self, pred, target):
        """Scores (B, K, h, w) and codes (B, 1, h, w) -> (B, 1, h, w), in nats."""
        loss = cross_entropy(pred, target.squeeze(1), reduction='none', label_smoothing=self.label_smoothing)
        return loss.unsqueeze(1)
