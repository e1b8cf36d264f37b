"""Base class of the losses that look at whole pictures."""

import torch
from torch.nn.functional import pixel_shuffle

from mae_toolkit.models import rules
from mae_toolkit.models.losses.loss import Loss
from mae_toolkit.models.mask_ops import upsample
from mae_toolkit.models.rules import check


class PictureLoss(Loss):
    """Compares pictures, of which only the predicted cells come from the prediction; the others are the original.

    What is pasted is equal on both sides, so that only predicted cells have a gradient, and a predicted pixel is seen
    among true neighbors. Everything runs in at least float32, under autocast, too.

    Args:
        target (Target): What is predicted: a picture.
        weight (float): Factor in the sum of losses.

    Attributes:
        stride (int): Pixels t per position of the target.
        channels (int): Channels C of the picture.

    Raises:
        UserError: If the target is no picture.
    """

    takes = dict(target='target')

    compares = ('picture',)

    def __init__(self, target, weight=1.0):
        super().__init__(weight)
        check(rules.check_loss_kind(target, type(self)))  # before a subclass counts on the picture's channels
        self.stride, self.channels = target.stride, target.channels // target.stride**2

    def compare(self, picture, original, predict):
        """Compare pictures in the units of the normalized images.

        Args:
            picture (Tensor): (B, C, H, W), the prediction where ``predict`` is True and the original elsewhere.
            original (Tensor): (B, C, H, W).
            predict (Tensor): (B, 1, H, W) bool.

        Returns:
            Tensor: Scalar.
        """
        raise NotImplementedError

    def forward(self, pred, target, predict):
        """Scalar of pred and target (B, C*t*t, H/t, W/t) and predict (B, 1, h, w) bool."""
        dtype = torch.promote_types(torch.promote_types(pred.dtype, target.dtype), torch.float32)
        with torch.autocast(pred.device.type, enabled=False):
            predicted, original = (pixel_shuffle(x.to(dtype), self.stride) for x in (pred, target))  # (B, C, H, W)
            where = upsample(predict, original.shape[-2:])
            return self.compare(torch.where(where, predicted, original), original, where)
