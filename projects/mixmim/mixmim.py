"""MixMIM: instead of nothing, the hidden cells show another image, and both are predicted."""

import torch
from torch import Tensor

from mae_toolkit.errors import UserError
from mae_toolkit.models import MaskedAutoencoder
from mae_toolkit.models.cells import Cells
from mae_toolkit.models.features import Features
from mae_toolkit.models.mask_ops import upsample
from mae_toolkit.registry import MODELS
from projects.mixmim.mixmim_swin import MixMIMSwin
from projects.mixmim.names import MIXMIM, MMPRETRAIN_MIXMIM


@MODELS.register_module()
class MixMIM(MaskedAutoencoder):
    """Masked autoencoder that encodes mixtures of two images and predicts all of both (arXiv:2205.13137, section 3).

    The partner of an image is at the same place of the batch counted from its end. Every cell of an image is visible
    in one of two mixtures and hidden in the other, from which it is predicted; so the loss covers all cells. In a
    batch of odd size the middle image is its own partner, which gives nothing away: attention within the encoder
    keeps cells of the one and the other kind apart.

    Args:
        encoder: Config of a :class:`MixMIMSwin`.
        masking: Config of a masking with ``shared=True``: the mixture of two images needs one mask for both.
        **kwargs: See :class:`MaskedAutoencoder`.

    Raises:
        UserError: If the encoder would let the two images see each other, or their masks would differ.
    """

    checkpoint_formats = (MIXMIM, MMPRETRAIN_MIXMIM)

    def check_parts(self) -> None:
        """Refuse parts that cannot encode a mixture, too; see :meth:`MaskedAutoencoder.check_parts`."""
        super().check_parts()
        if not isinstance(self.encoder, MixMIMSwin):
            raise UserError(f'MixMIM needs a MixMIMSwin as the encoder, not {type(self.encoder).__name__}.')
        if not self.masking.shared:
            raise UserError('MixMIM needs one mask for all images of a batch: set shared=True in the masking.')

    def draw_cells(
        self, imgs: Tensor, mask: Tensor | None = None, predict: Tensor | None = None, predict_all: bool = False
    ) -> Cells:
        """Draw what is hidden, and predict every cell unless others are given.

        See :meth:`MaskedAutoencoder.draw_cells`.
        """
        cells = super().draw_cells(imgs, mask, predict, predict_all)
        if mask is not None and (mask != mask[:1]).any():
            raise UserError('MixMIM needs one mask for all images of a batch, but the given masks differ.')
        if predict is not None:
            return cells
        return Cells(cells.mask, torch.ones_like(cells.mask), cells.num_visible, cells.num_cells)

    def encode(self, imgs: Tensor, cells: Cells) -> Features:
        """Encode mixtures of images (B, C, H, W): each with its partner where it is hidden."""
        mixed = torch.where(upsample(cells.mask, imgs.shape[-2:]), imgs.flip(0), imgs)
        return self.encoder.encode(mixed, cells)

    def decode(self, features: Features, cells: Cells) -> Tensor:
        """Decode both images of each mixture, and put the cells of each image together again.

        The decoder runs twice, each time with one of the two hidden, and each cell comes from where it was hidden.
        """
        own = self.decoder(features, Cells(cells.mask, num_visible=cells.num_visible))  # (B, D, H/d, W/d)
        partner = self.decoder(features, Cells(~cells.mask, num_visible=cells.num_cells - cells.num_visible))
        return torch.where(upsample(cells.mask, own.shape[-2:]), own, partner.flip(0))
