"""Base classes of the losses."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import nn

from mae_toolkit.errors import UserError
from mae_toolkit.models.mask_ops import upsample


class Loss(nn.Module):
    """Compares a prediction with a target.

    Args:
        weight (float): Factor in the sum of the losses of an objective, 0 or more.

    Attributes:
        compares (tuple[str, ...]): Kinds of :class:`Target` that it can compare a prediction with.
    """

    takes: ClassVar[Mapping[str, str]] = {}
    weight: float
    compares: tuple[str, ...] = ('picture', 'patches', 'vectors')

    def __init__(self, weight=1.0):
        super().__init__()
        if not weight >= 0:
            raise UserError(f'{type(self).__name__}: weight={weight} is a factor of 0 or more.')
        self.weight = weight

    def forward(self, pred, target, predict):
        """Scalar, without the weight, of pred and target (B, T, H/t, W/t) and predict (B, 1, h, w) bool."""
        raise NotImplementedError


class MaskedLoss(Loss):
    """A distance per position, averaged over the cells that are predicted, in at least float32."""

    def distance(self, pred, target):
        """(B, T, H/t, W/t) twice -> (B, 1, H/t, W/t); codes come as they are, (B, 1, H/t, W/t) int64."""
        raise NotImplementedError

    def forward(self, pred, target, predict):
        """Mean distance over the positions where ``predict`` is True."""
        dtype = torch.promote_types(torch.promote_types(pred.dtype, target.dtype), torch.float32)
        target = target.to(dtype) if target.is_floating_point() else target
        distance = self.distance(pred.to(dtype), target)  # (B, 1, H/t, W/t)
        where = upsample(predict, distance.shape[-2:])
        return distance.masked_fill(~where, 0).sum() / where.sum()
