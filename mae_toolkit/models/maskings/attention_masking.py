"""Masks by what a trained network attends to."""

import torch
from torch.nn.functional import avg_pool2d

from mae_toolkit.errors import UserError
from mae_toolkit.models.maskings.masking import Masking
from mae_toolkit.models.teacher import IMAGENET_MEAN, IMAGENET_STD, Teacher
from mae_toolkit.protocols import HasClassAttention
from mae_toolkit.registry import MODELS

MODES = ('sample', 'hide')


@MODELS.register_module()
class AttentionMasking(Masking):
    """Keeps, or hides, what the class token of a frozen network attends to.

    ``'sample'`` draws the visible cells without replacement, each with its attention as the probability, so that the
    encoder sees mostly what matters (MILAN, arXiv:2208.06049, section 3.3). ``'hide'`` hides the cells of most
    attention (AttMask, arXiv:2203.12719). The draw is a top-k of log-attention with Gumbel noise: with
    ``noise`` 1 it is exactly this distribution, with less it comes nearer to the highest attention, 0 draws nothing.

    The attention is that of the last block, averaged over heads, on the whole image. A cell counts the mean over the
    positions in it; images are resized for the network so that whole positions lie in a cell.

    Args:
        network (dict), checkpoint (str | None), in_chans (int), mean (tuple | None), std (tuple | None),
            network_mean (tuple), network_std (tuple): See :class:`~mae_toolkit.models.teacher.Teacher`;
            the network has a ``class_attention``, as ``ViT`` has.
        mode (str): One of those above.
        noise (float | None): Factor of the noise, 0 or more; 1 for ``'sample'`` and 0 for ``'hide'`` if None.
        **kwargs: As of :class:`Masking`.

    Raises:
        UserError: As of the network; if it has no attention of a class token, or there is no such mode.
    """

    takes = dict(in_chans='in_chans', mean='mean', std='std')

    def __init__(
        self,
        network,
        checkpoint=None,
        mode='sample',
        noise=None,
        in_chans=3,
        mean=None,
        std=None,
        network_mean=IMAGENET_MEAN,
        network_std=IMAGENET_STD,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if mode not in MODES:
            raise UserError(f'mode={mode!r} is neither "sample" nor "hide".')
        self.mode, self.noise = mode, float(mode == 'sample') if noise is None else noise
        if not self.noise >= 0:
            raise UserError(f'noise={noise} is a factor of 0 or more.')
        self.network = Teacher(network, checkpoint, in_chans, mean, std, network_mean, network_std)
        encoder = self.network.encoder
        if not isinstance(encoder, HasClassAttention):
            raise UserError(f'A {type(encoder).__name__} has no attention to mask by: choose a ViT as the network.')
        one = (1, in_chans, *(self.network.strides[-1],) * 2)
        with torch.no_grad():
            encoder.class_attention(torch.zeros(one))  # refuses here what it would refuse in training

    @torch.no_grad()
    def score(self, imgs, h, w):
        """Scores (B, h, w): log-attention and noise, the other way round where the attended is kept."""
        fine = max(1, round(self.unit / self.network.strides[-1]))  # positions of the network per cell, a side
        attention = self.network.class_attention(imgs, (h * fine, w * fine)).float()
        cells = avg_pool2d(attention.unsqueeze(1), fine).squeeze(1)  # (B, h, w)
        chance = cells.clamp_min(torch.finfo(cells.dtype).tiny).log()
        chance = chance - self.noise * torch.empty_like(chance).exponential_().log()  # Gumbel
        return chance if self.mode == 'hide' else -chance
