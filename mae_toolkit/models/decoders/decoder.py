"""Base class of the decoders."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor, nn

from mae_toolkit.errors import UserError
from mae_toolkit.models.cells import Cells
from mae_toolkit.models.features import Features
from mae_toolkit.models.layers.recompute import Recomputing


class Decoder(Recomputing, nn.Module):
    """Base class of the decoders, which fill the hidden cells of feature maps and know nothing of pixels.

    A subclass takes what it needs of the encoder as arguments, sets the attributes, and writes :meth:`forward`.

    Attributes:
        takes: Arguments that come from other parts, see :class:`~mae_toolkit.models.wiring.Wiring`.
        out_channels: Channels D of the output.
        out_stride: Pixels d per position of the output.
        pointwise: Whether a hidden cell learns nothing from the visible ones here.
        with_cp: Whether activations of the blocks are recomputed in the backward pass to save memory.
    """

    takes: ClassVar[Mapping[str, str]] = dict(in_channels='channels', in_strides='strides')
    out_channels: int
    out_stride: int
    pointwise: bool = False

    def forward(self, features: Features, cells: Cells) -> Tensor:
        """Decode the predicted cells.

        Args:
            features: Maps (B, C_i, H/s_i, W/s_i), zero where hidden, and prefix tokens per level.
            cells: The cells that were hidden from the encoder, and those that are compared with the target: in all
                others the output may be anything.

        Returns:
            (B, D, H/d, W/d).
        """
        raise NotImplementedError

    def list_blocks(self) -> Sequence[nn.Module]:
        """Return the modules that hold most of the parameters; see :meth:`Encoder.list_blocks`."""
        return tuple(getattr(self, 'blocks', ()))


def check_blocks(name: str, embed_dim: int, depth: int, num_heads: int) -> None:
    """Refuse impossible numbers of transformer blocks, heads and channels.

    Args:
        name: Name of the decoder, for the error.
        embed_dim: Channels of the blocks.
        depth: Number of blocks.
        num_heads: Heads of their attention.

    Raises:
        UserError: If there are no blocks or heads, or heads do not divide the channels.
    """
    if depth < 1 or num_heads < 1:
        raise UserError(f'{name}: depth={depth} and num_heads={num_heads} must be 1 or more.')
    if embed_dim % num_heads:
        raise UserError(f'{name}: num_heads={num_heads} must divide embed_dim={embed_dim}.')
