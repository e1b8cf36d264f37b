"""One thing to predict: a target, a head that predicts it, and the losses between the two."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from mae_toolkit.errors import UserError
from mae_toolkit.models import rules
from mae_toolkit.models.decoders import Decoder
from mae_toolkit.models.layers.init import init_transformer
from mae_toolkit.models.losses import Loss
from mae_toolkit.models.rules import check
from mae_toolkit.models.targets import Target
from mae_toolkit.models.wiring import Wiring
from mae_toolkit.registry import build


class PredictionHead(nn.Module):
    """Convolution that predicts a target (B, T, H/t, W/t) from the decoder's map (B, D, H/d, W/d).

    Where the strides are equal, its kernel is 1x1. Where the target is finer (t < d), the kernel is 1x1, too, and
    ``pixel_shuffle`` unfolds each position of the decoder: from d = 16 to t = 4, into 4 x 4 positions. Where the target
    is coarser and made of pixels, ``pixel_shuffle`` puts the pixels in their places and ``pixel_unshuffle`` folds them
    again; for any other coarser target the kernel spans the positions of the decoder that make one of the target.

    Args:
        in_channels: Channels D of the decoder's map.
        in_stride: Pixels d per position of the decoder's map.
        target: What is predicted.

    Raises:
        UserError: If neither stride divides the other.
    """

    up: int
    fold: int

    def __init__(self, in_channels: int, in_stride: int, target: Target):
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

    def forward(self, x: Tensor) -> Tensor:
        """Predict the target: (B, D, H/d, W/d) -> (B, T, H/t, W/t)."""
        x = self.proj(x)
        x = pixel_shuffle(x, self.up) if self.up > 1 else x
        return pixel_unshuffle(x, self.fold) if self.fold > 1 else x


class Objective(nn.Module):
    """One target, the head that predicts it, and the weighted losses that compare the two.

    Args:
        target: Config of a :class:`Target`.
        losses: Configs of :class:`Loss`, each with its ``weight``.
        decoder: The decoder from whose map the target is predicted.
        wiring: What the target and the losses may take from other parts; nothing by default.

    Raises:
        UserError: If there is no loss, all have the weight 0, or one cannot compare such a target.
    """

    def __init__(
        self,
        target: Target | dict[str, Any],
        losses: Sequence[Loss | dict[str, Any]],
        decoder: Decoder,
        wiring: Wiring | None = None,
    ):
        super().__init__()
        if not losses:
            raise UserError('An objective needs at least one loss, as in losses=[dict(type="MaskedL2Loss")].')
        wiring = Wiring() if wiring is None else wiring
        self.target = build(Target, target, wiring)
        check(rules.check_target_kind(self.target))
        self.head = PredictionHead(decoder.out_channels, decoder.out_stride, self.target)
        wiring = replace(wiring, target=self.target)
        built = [build(Loss, loss, wiring) for loss in losses]
        self.losses = nn.ModuleList(built)
        if not sum(loss.weight for loss in built):
            raise UserError('All losses of an objective have the weight 0: give one of them a weight, or leave it out.')
        for loss in built:
            check(rules.check_loss_kind(self.target, loss))

    def forward(self, prediction: Tensor, imgs: Tensor, predict: Tensor) -> Tensor:
        """Compare a prediction with the target of the images.

        Args:
            prediction: (B, T, H/t, W/t), what :attr:`head` made of the decoder's map.
            imgs: (B, C, H, W).
            predict: (B, 1, h, w) bool, True for the cells that are compared.

        Returns:
            The weighted sum of the losses, a scalar.
        """
        with torch.no_grad():
            target = self.target(imgs)
        return sum(loss.weight * loss(prediction, target, predict) for loss in self.losses)
