"""Base classes of the losses."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from mae_toolkit.errors import UserError
from mae_toolkit.models.mask_ops import upsample


class Loss(nn.Module):
    """Base class of the losses, which compare a prediction with a target.

    Args:
        weight: Factor in the sum of the losses of an objective, 0 or more.

    Attributes:
        takes: Arguments of the constructor that come from the model, see :class:`~mae_toolkit.models.wiring.Wiring`.
        compares: Kinds of :class:`~mae_toolkit.models.targets.Target` with which it can compare a prediction.

    Raises:
        UserError: If the weight is negative.
    """

    takes: ClassVar[Mapping[str, str]] = {}
    weight: float
    compares: tuple[str, ...] = ('picture', 'patches', 'vectors')

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        if not weight >= 0:
            raise UserError(f'{type(self).__name__}: weight={weight} must be 0 or more.')
        self.weight = weight

    def forward(self, pred: Tensor, target: Tensor, predict: Tensor) -> Tensor:
        """Compute the loss, without its weight.

        Args:
            pred: (B, T, H/t, W/t).
            target: (B, T, H/t, W/t); codes are (B, 1, H/t, W/t) int64.
            predict: (B, 1, h, w) bool, True for the cells that are compared.

        Returns:
            A scalar.
        """
        raise NotImplementedError


class MaskedLoss(Loss):
    """Base class of the losses that average a distance per position, which a subclass writes, over the predicted cells.

    Args:
        weight: Factor in the sum of the losses of an objective, 0 or more.
    """

    def distance(self, pred: Tensor, target: Tensor) -> Tensor:
        """Measure the distance (B, 1, H/t, W/t) of a prediction (B, T, H/t, W/t) and a target.

        The target has the shape of the prediction; codes are (B, 1, H/t, W/t) int64.
        """
        raise NotImplementedError

    def forward(self, pred: Tensor, target: Tensor, predict: Tensor) -> Tensor:
        """Average the distance over the positions where ``predict`` is True; see :meth:`Loss.forward`."""
        dtype = torch.promote_types(torch.promote_types(pred.dtype, target.dtype), torch.float32)
        target = target.to(dtype) if target.is_floating_point() else target
        distance = self.distance(pred.to(dtype), target)  # (B, 1, H/t, W/t)
        where = upsample(predict, distance.shape[-2:])
        return distance.masked_fill(~where, 0).sum() / where.sum()
