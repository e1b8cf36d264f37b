"""Masks drawn by the attention of a trained network."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from mae_toolkit.errors import UserError
from mae_toolkit.models.maskings.masking import Masking
from mae_toolkit.models.teacher import IMAGENET_MEAN, IMAGENET_STD, Teacher
from mae_toolkit.protocols import HasClassAttention
from mae_toolkit.registry import MODELS

MODES = ('sample', 'hide')


@MODELS.register_module()
class AttentionMasking(Masking):
    """Masking that keeps visible, or hides, the cells that the class token of a frozen network attends to.

    ``mode='sample'`` draws the visible cells without replacement, each with a probability proportional to its
    attention, so that the encoder mostly sees what matters (MILAN, arXiv:2208.06049, section 3.3). ``mode='hide'``
    hides the cells of the highest attention (AttMask, arXiv:2203.12719). Cells are drawn as the top k of log-attention
    plus Gumbel noise: ``noise=1`` gives exactly this distribution, less noise favors the highest attention, and
    ``noise=0`` draws nothing.

    The attention is that of the last block on the whole image, averaged over heads. The attention of a cell is the mean
    over the positions in it; images are resized for the network so that a cell holds whole positions.

    Args:
        network: Config of the network, see :class:`~mae_toolkit.models.teacher.Teacher`. It must have a
            ``class_attention``, as ``ViT`` and ``Eva`` have.
        checkpoint: Path of its weights; without it they are random.
        mode: ``'sample'`` or ``'hide'``.
        noise: Factor of the noise, 0 or more; 1 for ``'sample'`` and 0 for ``'hide'`` if None.
        in_chans: Channels of the images.
        mean: Means by which the images are normalized, in the units of their files; None if unknown.
        std: Standard deviations by which the images are normalized.
        network_mean: Means that the network expects.
        network_std: Standard deviations that the network expects.
        channels_rule: Rule by which weights of images with other channels are adapted to these.
        **kwargs: See :class:`Masking`.

    Raises:
        UserError: If the network cannot be used (see :class:`~mae_toolkit.models.teacher.Teacher`), it has no attention
            of a class token, or an argument is out of its range.
    """

    takes = dict(in_chans='in_chans', mean='mean', std='std')

    def __init__(
        self,
        network: dict[str, Any],
        checkpoint: str | None = None,
        mode: str = 'sample',
        noise: float | None = None,
        in_chans: int = 3,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        network_mean: Sequence[float] = IMAGENET_MEAN,
        network_std: Sequence[float] = IMAGENET_STD,
        channels_rule: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if mode not in MODES:
            raise UserError(f'mode={mode!r} must be "sample" or "hide".')
        self.mode, self.noise = mode, float(mode == 'sample') if noise is None else noise
        if not self.noise >= 0:
            raise UserError(f'noise={noise} must be 0 or more.')
        self.network = Teacher(network, checkpoint, in_chans, mean, std, network_mean, network_std, channels_rule)
        encoder = self.network.encoder
        if not isinstance(encoder, HasClassAttention):
            name = type(encoder).__name__
            raise UserError(f'A {name} has no attention to mask by: choose a ViT or Eva as the network.')
        stride = self.network.strides[-1]
        with torch.no_grad():  # refuses here what it would refuse in training
            encoder.class_attention(torch.zeros(1, in_chans, stride, stride))

    @torch.no_grad()
    def score(self, imgs: Tensor, h: int, w: int) -> Tensor:
        """Score the cells (B, h, w) by log-attention and noise, negated where attended cells stay visible."""
        positions = max(1, round(self.unit / self.network.strides[-1]))  # of the network per side of a cell
        attention = self.network.class_attention(imgs, (h * positions, w * positions)).float()
        cells = avg_pool2d(attention.unsqueeze(1), positions).squeeze(1)  # (B, h, w)
        chance = cells.clamp_min(torch.finfo(cells.dtype).tiny).log()
        chance = chance - self.noise * torch.empty_like(chance).exponential_().log()  # Gumbel
        return chance if self.mode == 'hide' else -chance
