"""One thing to predict: a target, a head that predicts it, and the losses between the two."""

import torch
from torch import nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from mae_toolkit.errors import UserError
from mae_toolkit.models.layers.init import init_transformer
from mae_toolkit.models.losses import Loss
from mae_toolkit.models.targets import Target
from mae_toolkit.registry import build


class PredictionHead(nn.Module):
    """A 1x1 convolution from the decoder's map (B, D, H/d, W/d) to a prediction (B, T, H/t, W/t).

    Where the target is finer than the decoder (t < d), positions are unfolded by ``pixel_shuffle``; where it is
    coarser, they are folded by ``pixel_unshuffle``.
    """

    def __init__(self, in_channels, in_stride, channels, stride):
        super().__init__()
        fine, coarse = min(in_stride, stride), max(in_stride, stride)
        self.up, self.down = in_stride // fine, stride // fine
        if coarse % fine or channels % self.down**2:
            raise UserError(
                f'A target of {channels} channels at stride {stride} cannot be predicted from a decoder of stride '
                f'{in_stride}: one stride must divide the other, and its square the channels.'
            )
        self.proj = nn.Conv2d(in_channels, channels * self.up**2 // self.down**2, 1)
        init_transformer(self)

    def forward(self, x):
        """(B, D, H/d, W/d) -> (B, T, H/t, W/t)."""
        x = self.proj(x)
        x = pixel_shuffle(x, self.up) if self.up > 1 else x
        return pixel_unshuffle(x, self.down) if self.down > 1 else x


class Objective(nn.Module):
    """One target, one prediction head, and one or more weighted losses.

    Args:
        target (dict): Config of a :class:`Target`.
        losses (list[dict]): Configs of :class:`Loss`.
        in_channels (int), in_stride (int): The decoder's output.
        **offered: What the target may ask for by name: ``patch``, ``in_chans``, ``unit``.
    """

    def __init__(self, target, losses, in_channels, in_stride, **offered):
        super().__init__()
        if not losses:
            raise UserError('An objective needs at least one loss, as in losses=[dict(type="MaskedL2Loss")].')
        self.target = build(Target, target, **offered)
        self.head = PredictionHead(in_channels, in_stride, self.target.channels, self.target.stride)
        self.losses = nn.ModuleList(build(Loss, loss, target=self.target, **offered) for loss in losses)

    def forward(self, prediction, imgs, predict):
        """Weighted sum of the losses of a prediction (B, T, H/t, W/t) for images (B, C, H, W)."""
        with torch.no_grad():
            target = self.target(imgs)
        return sum(loss.weight * loss(prediction, target, predict) for loss in self.losses)
