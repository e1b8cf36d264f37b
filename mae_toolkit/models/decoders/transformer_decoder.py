"""The decoder of MAE and Hiera."""

from collections.abc import Sequence
from functools import partial

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from mae_toolkit.models.cells import Cells
from mae_toolkit.models.decoders.decoder import Decoder, check_blocks
from mae_toolkit.models.features import Features
from mae_toolkit.models.layers.folded_levels import FoldedLevels
from mae_toolkit.models.layers.init import init_transformer
from mae_toolkit.models.layers.level_fusion import LevelFusion
from mae_toolkit.models.layers.positions import make_positions
from mae_toolkit.models.mask_ops import to_map, to_tokens, upsample
from mae_toolkit.registry import MODELS


@MODELS.register_module()
class TransformerDecoder(Decoder):
    """Transformer blocks over all cells, a learned token at the hidden ones (MAE, arXiv:2111.06377, section 3).

    The deepest level's prefix tokens take part. Finer levels are folded to the deepest stride
    (``pixel_unshuffle``), projected and added; or, as in Hiera (arXiv:2306.00989, section 3.3), they are fused to one
    level with the deepest level's channels and normalized before that.

    Args:
        in_channels: Channels of the encoder's levels.
        in_strides: Pixels per position of these levels.
        grid: Rows and columns that positions refer to: fixed ones are counted on them, or on those of the input if
            None; learned ones are stored for them, and resized to any other.
        embed_dim: Channels D of the blocks.
        depth: Number of blocks.
        num_heads: Heads of their attention.
        mlp_ratio: Width of their MLPs, in multiples of ``embed_dim``.
        fusion: Fuse the levels as Hiera does, see :class:`~mae_toolkit.models.layers.level_fusion.LevelFusion`.
        positions: ``'sincos'`` (fixed) or ``'learned'``.
        norm_eps: Epsilon of the layer norms.
        with_cp: Recompute the activations of the blocks in the backward pass to save memory.

    Raises:
        UserError: If there are no blocks or heads, heads do not divide the channels, or learned positions have no grid.
    """

    takes = dict(grid='grid')

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        grid: tuple[int, int] | None = None,
        embed_dim: int = 512,
        depth: int = 8,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        fusion: bool = False,
        positions: str = 'sincos',
        norm_eps: float = 1e-6,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        check_blocks('TransformerDecoder', embed_dim, depth, num_heads)
        self.out_channels, self.out_stride, self.with_cp = embed_dim, max(in_strides), with_cp
        self.fusion = LevelFusion(in_channels, in_strides, norm_eps) if fusion else nn.Identity()
        if fusion:
            in_channels, in_strides = in_channels[-1:], in_strides[-1:]
        norm = partial(nn.LayerNorm, eps=norm_eps)
        self.embed = FoldedLevels(in_channels, in_strides, embed_dim)
        self.mask_token = nn.Parameter(torch.empty(embed_dim))
        self.blocks = nn.ModuleList(
            Block(embed_dim, num_heads, mlp_ratio, qkv_bias=True, norm_layer=norm) for _ in range(depth)
        )
        self.norm = norm(embed_dim)
        self.positions = make_positions(positions, embed_dim, grid)
        init_transformer(self)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, features: Features, cells: Cells) -> Tensor:
        """Decode all cells; see :meth:`Decoder.forward`."""
        features = self.fusion(features)
        size = features.maps[-1].shape[-2:]
        x = to_tokens(self.embed(features.maps))
        hidden = to_tokens(upsample(cells.mask, size))  # (B, L, 1)
        x = torch.where(hidden, self.mask_token.to(x.dtype), x)  # (B, L, D)
        x = x + self.positions(size).to(self.mask_token.dtype)
        prefix = features.prefixes[-1]
        num_prefix = 0 if prefix is None else prefix.shape[1]
        if num_prefix:
            x = torch.cat([self.embed[-1](prefix).to(x.dtype), x], dim=1)  # (B, P+L, D)
        for block in self.blocks:
            x = self.run(block, x)
        return to_map(self.norm(x)[:, num_prefix:], size)
