"""One thing to predict: a target, a head that predicts it, and the losses between the two."""

import torch
from torch import nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from mae_toolkit.errors import UserError
from mae_toolkit.models import rules
from mae_toolkit.models.layers.init import init_transformer
from mae_toolkit.models.losses import Loss
from mae_toolkit.models.rules import check
from mae_toolkit.models.targets import Target
from mae_toolkit.registry import build


class PredictionHead(nn.Module):
    """A convolution from the decoder's map (B, D, H/d, W/d) to a prediction (B, T, H/t, W/t).

    Its kernel is 1x1. Where the target is finer than the decoder (t < d), positions are unfolded by ``pixel_shuffle``.
    Where it is coarser, pixels are put in their places and folded by ``pixel_unshuffle``; for any other target the
    kernel spans the positions of the decoder that make one of the target.

    Args:
        in_channels (int), in_stride (int): The decoder's output.
        target (Target): What is predicted.
    """

    def __init__(self, in_channels, in_stride, target):
        super().__init__()
        fine = min(in_stride, target.stride)
        if max(in_stride, target.stride) % fine:
            raise UserError(
                f'A target of stride {target.stride} cannot be predicted from a decoder of stride {in_stride}: '
                'one must divide the other.'
            )
        span = target.stride // fine
        folds = span > 1 and target.kind in ('picture', 'patches')
        self.up, self.fold, span = (in_stride, target.stride, 1) if folds else (in_stride // fine, 1, span)
        self.proj = nn.Conv2d(in_channels, target.channels * self.up**2 // self.fold**2, span, stride=span)
        init_transformer(self)

    def forward(self, x):
        """(B, D, H/d, W/d) -> (B, T, H/t, W/t)."""
        x = self.proj(x)
        x = pixel_shuffle(x, self.up) if self.up > 1 else x
        return pixel_unshuffle(x, self.fold) if self.fold > 1 else x


class Objective(nn.Module):
    """One target, one prediction head, and one or more weighted losses.

    Args:
        target (dict): Config of a :class:`Target`.
        losses (list[dict]): Configs of :class:`Loss`.
        in_channels (int), in_stride (int): The decoder's output.
        **offered: What the target and the losses may ask for by name: ``patch``, ``in_chans``, ``unit``, ``encoder``
            (its config), ``mean`` and ``std`` of the images.

    Raises:
        UserError: If there is no loss, none counts, or one cannot compare such a target.
    """

    def __init__(self, target, losses, in_channels, in_stride, **offered):
        super().__init__()
        if not losses:
            raise UserError('An objective needs at least one loss, as in losses=[dict(type="MaskedL2Loss")].')
        self.target = build(Target, target, **offered)
        self.head = PredictionHead(in_channels, in_stride, self.target)
        self.losses = nn.ModuleList(build(Loss, loss, target=self.target, **offered) for loss in losses)
        if not sum(loss.weight for loss in self.losses):
            raise UserError('All losses of an objective have the weight 0: give one of them a weight, or leave it out.')
        for loss in self.losses:
            check(rules.check_loss_kind(self.target, loss))

    def forward(self, prediction, imgs, predict):
        """Weighted sum of the losses of a prediction (B, T, H/t, W/t) for images (B, C, H, W)."""
        with torch.no_grad():
            target = self.target(imgs)
        return sum(loss.weight * loss(prediction, target, predict) for loss in self.losses)
