"""Base class of the decoders."""

from collections.abc import Mapping
from typing import ClassVar

from torch import nn

from mae_toolkit.errors import UserError


class Decoder(nn.Module):
    """Fills the hidden cells of feature maps; knows nothing of pixels.

    Attributes:
        out_channels (int): Channels D of the output.
        out_stride (int): Pixels d per position of the output.
        pointwise (bool): True if a hidden cell learns nothing from the visible ones here.
    """

    takes: ClassVar[Mapping[str, str]] = dict(in_channels='channels', in_strides='strides')
    out_channels: int
    out_stride: int
    pointwise: bool = False

    def forward(self, features, cells):
        """Decode.

        Args:
            features (Features): Maps (B, C_i, H/s_i, W/s_i), zero where hidden, and prefix tokens per level.
            cells (Cells): What was hidden from the encoder, and what will be compared with the target: in other cells
                the output may be anything.

        Returns:
            Tensor: (B, D, H/d, W/d).
        """
        raise NotImplementedError


def check_blocks(name, embed_dim, depth, num_heads):
    """Refuse transformer blocks of sizes that cannot be.

    Raises:
        UserError: If there are no blocks or heads, or heads do not divide the channels.
    """
    if depth < 1 or num_heads < 1:
        raise UserError(f'{name}: depth={depth} and num_heads={num_heads} are 1 or more.')
    if embed_dim % num_heads:
        raise UserError(f'{name}: {num_heads} heads do not divide embed_dim={embed_dim}.')
