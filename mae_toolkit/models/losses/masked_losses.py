"""Losses that average a distance per position over the predicted cells."""

from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy, smooth_l1_loss

from mae_toolkit.errors import UserError
from mae_toolkit.models.losses.loss import MaskedLoss
from mae_toolkit.registry import MODELS


@MODELS.register_module()
class MaskedL2Loss(MaskedLoss):
    """Mean squared error (MAE, arXiv:2111.06377, section 3).

    Args:
        weight: Factor in the sum of the losses of an objective.
    """

    def distance(self, pred: Tensor, target: Tensor) -> Tensor:
        """Average the squared difference over channels."""
        return (pred - target).square().mean(1, keepdim=True)


@MODELS.register_module()
class MaskedL1Loss(MaskedLoss):
    """Mean absolute error (SimMIM, arXiv:2111.09886, section 3.4).

    Args:
        weight: Factor in the sum of the losses of an objective.
    """

    def distance(self, pred: Tensor, target: Tensor) -> Tensor:
        """Average the absolute difference over channels."""
        return (pred - target).abs().mean(1, keepdim=True)


@MODELS.register_module()
class MaskedSmoothL1Loss(MaskedLoss):
    """Smooth L1 loss: squared below ``beta``, linear above (Fast R-CNN, arXiv:1504.08083, equation 3).

    Args:
        beta: Difference at which the two meet, in units of the target.
        weight: Factor in the sum of the losses of an objective.
    """

    def __init__(self, beta: float = 1.0, weight: float = 1.0) -> None:
        super().__init__(weight)
        self.beta = beta

    def distance(self, pred: Tensor, target: Tensor) -> Tensor:
        """Average the smooth absolute difference over channels."""
        return smooth_l1_loss(pred, target, reduction='none', beta=self.beta).mean(1, keepdim=True)


@MODELS.register_module()
class MaskedCosineLoss(MaskedLoss):
    """Squared distance of features scaled to unit length (MILAN, arXiv:2208.06049, equation 3).

    This is 2 - 2 cos of the angle between the features of a position.

    Args:
        weight: Factor in the sum of the losses of an objective.
    """

    def distance(self, pred: Tensor, target: Tensor) -> Tensor:
        """Measure the squared distance, from 0 (the same direction) to 4 (opposite directions)."""
        return 2 - 2 * cosine_similarity(pred, target, dim=1).unsqueeze(1)


@MODELS.register_module()
class MaskedCrossEntropyLoss(MaskedLoss):
    """Cross-entropy of the predicted scores of all codes and the code of each position.

    The loss is that of BEiT (arXiv:2106.08254, equation 2).

    Args:
        label_smoothing: Part of the probability that is spread over all codes, from 0 to below 1 (arXiv:1512.00567,
            section 7).
        weight: Factor in the sum of the losses of an objective.

    Raises:
        UserError: If an argument is out of its range.
    """

    compares = ('codes',)

    def __init__(self, label_smoothing: float = 0.0, weight: float = 1.0) -> None:
        super().__init__(weight)
        if not 0 <= label_smoothing < 1:
            raise UserError(f'MaskedCrossEntropyLoss: label_smoothing={label_smoothing} must be from 0 to below 1.')
        self.label_smoothing = label_smoothing

    def distance(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compute the cross-entropy (B, 1, H/t, W/t) of scores (B, K, H/t, W/t) and codes, in nats."""
        loss = cross_entropy(pred, target.squeeze(1), reduction='none', label_smoothing=self.label_smoothing)
        return loss.unsqueeze(1)
