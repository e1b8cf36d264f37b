"""The decoder of UM-MAE."""

from collections.abc import Sequence
from functools import partial

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle

from mae_toolkit.models.cells import Cells
from mae_toolkit.models.decoders import Decoder
from mae_toolkit.models.features import Features
from mae_toolkit.models.layers.init import init_transformer
from mae_toolkit.models.layers.positions import compute_sincos_positions, look_up_positions
from mae_toolkit.models.mask_ops import to_map, to_tokens, upsample
from mae_toolkit.registry import MODELS
from projects.ummae.compaction import compact, spread


@MODELS.register_module()
class CompactDecoder(Decoder):
    """Decoder that unfolds the compact map to half the stride, puts its cells in their places and decodes all cells.

    As in UM-MAE (arXiv:2205.10063): a linear layer to four times the width, PixelShuffle, a learned token where hidden,
    fixed sine-cosine positions, transformer blocks.

    Args:
        in_channels: Channels of the encoder's levels, of which the last one is read.
        in_strides: Pixels per position of these levels.
        grid: Rows and columns at the encoder's last stride on which positions are counted.
        embed_dim: Channels D of the blocks.
        depth: Number of blocks.
        num_heads: Heads of their attention.
        mlp_ratio: Width of their MLPs, in multiples of ``embed_dim``.
        norm_eps: Epsilon of the layer norms.
        aligned: A visible cell has the position of its place. The official code takes the positions in the order
            of the rows of the whole image, but the cells in that of their blocks; ``False`` does the same, for weights
            that were trained so.
    """

    takes = dict(grid='grid')

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        grid: tuple[int, int] | None = None,
        embed_dim: int = 512,
        depth: int = 2,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        norm_eps: float = 1e-6,
        aligned: bool = True,
    ) -> None:
        super().__init__()
        self.out_channels, self.out_stride = embed_dim, in_strides[-1] // 2
        self.aligned, self.grid = aligned, None if grid is None else tuple(2 * n for n in grid)
        norm = partial(nn.LayerNorm, eps=norm_eps)
        self.embed = nn.Linear(in_channels[-1], 4 * embed_dim)
        self.mask_token = nn.Parameter(torch.empty(embed_dim))
        self.blocks = nn.ModuleList(
            Block(embed_dim, num_heads, mlp_ratio, qkv_bias=True, norm_layer=norm) for _ in range(depth)
        )
        self.norm = norm(embed_dim)
        init_transformer(self)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, features: Features, cells: Cells) -> Tensor:
        """Decode all cells from a compact map; see :meth:`Decoder.forward`."""
        x = features.maps[-1]
        x = pixel_shuffle(to_map(self.embed(to_tokens(x)), x.shape[-2:]), 2)  # (B, D, h/2, w/2)
        size = tuple(2 * n for n in x.shape[-2:])
        places = compute_sincos_positions(self.out_channels, size, self.grid, x.device).to(x.dtype)  # (L, D)
        every = places.expand(len(x), -1, -1)  # (B, L, D)
        if self.aligned:
            of_visible = compact(to_map(every, size), cells.mask)
        else:
            of_visible = to_map(look_up_positions(places, cells.visible_ids(size)), x.shape[-2:])
        x = to_tokens(spread(x + of_visible, cells.mask))  # (B, L, D)
        hidden = to_tokens(upsample(cells.mask, size))  # (B, L, 1)
        x = torch.where(hidden, self.mask_token.to(x.dtype) + every, x)
        for block in self.blocks:
            x = block(x)
        return to_map(self.norm(x), size)
