"""UM-MAE: uniform masking, so that a hierarchical transformer sees a smaller whole image."""

from torch import Tensor

from mae_toolkit.errors import UserError
from mae_toolkit.models import MaskedAutoencoder
from mae_toolkit.models.cells import Cells
from mae_toolkit.models.maskings import UniformMasking
from mae_toolkit.registry import MODELS
from projects.ummae.compact_decoder import CompactDecoder
from projects.ummae.compact_swin import CompactSwin
from projects.ummae.compaction import check_blocks
from projects.ummae.names import ummae_format


@MODELS.register_module()
class UMMAE(MaskedAutoencoder):
    """A masked autoencoder whose encoder's maps hold the visible cells pushed together (arXiv:2205.10063).

    Args:
        encoder: Config of a :class:`CompactSwin`.
        masking: Config of a :class:`UniformMasking` that leaves one of each 2 x 2 cells visible.
        decoder: Config of a :class:`CompactDecoder`.
        **kwargs: See :class:`MaskedAutoencoder`.

    Raises:
        UserError: If a part is of another class or has other settings.
    """

    @property
    def checkpoint_formats(self):
        """Formats of checkpoints; the names in them depend on the depths."""
        return (ummae_format([len(stage.blocks) for stage in self.encoder.body.layers]),)

    def check_parts(self) -> None:
        """Check the parts by other rules: the mask fits no map of the encoder, only the decoder's."""
        for part, kind in ((self.encoder, CompactSwin), (self.decoder, CompactDecoder), (self.masking, UniformMasking)):
            if not isinstance(part, kind):
                raise UserError(f'UM-MAE needs a {kind.__name__}, not a {type(part).__name__}.')
        if self.masking.block != 2 or self.masking.count_hidden(64) != 48:
            raise UserError(
                'UM-MAE leaves one of each 2 x 2 cells visible, so UniformMasking needs block=2 and ratio=0.75, not '
                f'block={self.masking.block} and ratio={self.masking.ratio}.'
            )
        if self.masking.unit % self.decoder.out_stride:
            raise UserError(
                f'Stride {self.decoder.out_stride} of the decoder does not divide mask unit {self.masking.unit}.'
            )

    def draw_cells(
        self, imgs: Tensor, mask: Tensor | None = None, predict: Tensor | None = None, predict_all: bool = False
    ) -> Cells:
        """Draw what is hidden; a given mask must leave one of each 2 x 2 cells visible.

        See :meth:`MaskedAutoencoder.draw_cells`.
        """
        cells = super().draw_cells(imgs, mask, predict, predict_all)
        if mask is not None:
            check_blocks(mask)
        return cells
