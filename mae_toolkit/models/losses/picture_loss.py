"""Base class of the losses that look at whole pictures."""

import torch
from torch import Tensor
from torch.nn.functional import pixel_shuffle

from mae_toolkit.models import rules
from mae_toolkit.models.losses.loss import Loss
from mae_toolkit.models.mask_ops import upsample
from mae_toolkit.models.rules import check
from mae_toolkit.models.targets.target import Target


class PictureLoss(Loss):
    """Base class of the losses that compare the original with itself where the prediction is pasted into it.

    Pixels outside the predicted cells are equal in both pictures, so that only predicted cells have a gradient, and a
    predicted pixel is seen among true neighbors. Everything runs in at least float32, under autocast, too. A subclass
    writes :meth:`compare`.

    Args:
        target: What is predicted; it comes from the objective and must be of the kind ``'picture'``.
        weight: Factor in the sum of the losses of an objective.

    Attributes:
        stride: Pixels t per side of a position of the target.
        channels: Channels C of the picture.

    Raises:
        UserError: If the target is no picture.
    """

    takes = dict(target='target')

    compares = ('picture',)

    def __init__(self, target: Target, weight: float = 1.0) -> None:
        super().__init__(weight)
        check(rules.check_loss_kind(target, type(self)))  # before a subclass counts on the picture's channels
        self.stride, self.channels = target.stride, target.channels // target.stride**2

    def compare(self, picture: Tensor, original: Tensor, predict: Tensor) -> Tensor:
        """Compare pictures in the units of the normalized images.

        Args:
            picture: (B, C, H, W), the prediction where ``predict`` is True and the original elsewhere.
            original: (B, C, H, W).
            predict: (B, 1, H, W) bool.

        Returns:
            A scalar.
        """
        raise NotImplementedError

    def forward(self, pred: Tensor, target: Tensor, predict: Tensor) -> Tensor:
        """Unfold prediction and target (B, C*t*t, H/t, W/t) to pictures and compare them; see :meth:`Loss.forward`."""
        dtype = torch.promote_types(torch.promote_types(pred.dtype, target.dtype), torch.float32)
        with torch.autocast(pred.device.type, enabled=False):
            predicted, original = (pixel_shuffle(x.to(dtype), self.stride) for x in (pred, target))  # (B, C, H, W)
            where = upsample(predict, original.shape[-2:])
            return self.compare(torch.where(where, predicted, original), original, where)
