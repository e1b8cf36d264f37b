"""The decoder of FCMAE."""

from collections.abc import Sequence

import torch
from timm.models.convnext import ConvNeXtBlock
from torch import Tensor, nn

from mae_toolkit.errors import UserError
from mae_toolkit.models.cells import Cells
from mae_toolkit.models.decoders.decoder import Decoder
from mae_toolkit.models.features import Features
from mae_toolkit.models.layers.folded_levels import FoldedLevels
from mae_toolkit.models.mask_ops import upsample
from mae_toolkit.registry import MODELS


@MODELS.register_module()
class ConvNeXtDecoder(Decoder):
    """ConvNeXt V2 blocks over all cells, a learned token at the hidden ones (FCMAE, arXiv:2301.00808, section 3.1).

    It works at the greatest stride of the encoder. Finer levels are folded to it (``pixel_unshuffle``), projected and
    added; prefix tokens are not used. No norm follows the blocks, and their GRN sums over each image.

    Args:
        in_channels: Channels of the encoder's levels.
        in_strides: Pixels per position of these levels.
        embed_dim: Channels D of the blocks.
        depth: Number of blocks.
        kernel_size: Rows and columns of the kernels of the depthwise convolutions; odd.
        with_cp: Recompute the activations of the blocks in the backward pass to save memory.

    Raises:
        UserError: If there is no block, or its convolution has no middle.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        embed_dim: int = 512,
        depth: int = 1,
        kernel_size: int = 7,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        if depth < 1:
            raise UserError(f'ConvNeXtDecoder: depth={depth} must be 1 or more.')
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise UserError(f'ConvNeXtDecoder: kernel_size={kernel_size} must be odd, so that the kernel has a middle.')
        self.out_channels, self.out_stride, self.with_cp = embed_dim, max(in_strides), with_cp
        self.embed = FoldedLevels(in_channels, in_strides, embed_dim)
        self.mask_token = nn.Parameter(torch.empty(embed_dim))
        block = dict(kernel_size=kernel_size, use_grn=True, ls_init_value=None)
        self.blocks = nn.Sequential(*(ConvNeXtBlock(embed_dim, **block) for _ in range(depth)))
        self._draw()

    def forward(self, features: Features, cells: Cells) -> Tensor:
        """Decode all cells; see :meth:`Decoder.forward`."""
        x = self.embed(features.maps)  # (B, D, h, w)
        token = self.mask_token.to(x.dtype).view(-1, 1, 1)
        x = torch.where(upsample(cells.mask, x.shape[-2:]), token, x)
        for block in self.blocks:
            x = self.run(block, x)
        return x

    def _draw(self) -> None:
        """Draw the weights as ConvNeXt does, and the token as FCMAE does."""
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        nn.init.normal_(self.mask_token, std=0.02)
