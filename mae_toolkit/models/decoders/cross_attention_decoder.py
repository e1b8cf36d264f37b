"""The decoder of CrossMAE."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from mae_toolkit.models.cells import Cells, Packing, pack, unpack
from mae_toolkit.models.decoders.decoder import Decoder, check_blocks
from mae_toolkit.models.features import Features
from mae_toolkit.models.layers.cross_attention import CrossAttentionBlock
from mae_toolkit.models.layers.init import init_transformer
from mae_toolkit.models.layers.positions import SincosPositions, look_up_positions
from mae_toolkit.models.mask_ops import fold, to_map, to_tokens, upsample
from mae_toolkit.registry import MODELS


@MODELS.register_module()
class CrossAttentionDecoder(Decoder):
    """Decoder whose predicted cells attend only to visible tokens (CrossMAE, arXiv:2401.14391, section 3).

    A query is a learned token at a fixed sine-cosine position. Each block attends to its own learned mixture of all
    levels of the encoder, visible and prefix tokens, normalized. Cells that are not predicted are not seen, so that
    only the predicted ones are decoded (``predict_ratio`` of the masking), and the others are zero; if their number is
    not known, all cells are decoded, with the same result.

    The published encoder gives its input and every block: ``out_indices=(-1, 0, ..., depth - 1), final_norm=False``.
    Levels that have other strides or channels than the last are folded to its stride and projected before they are
    mixed; the published method needs no projection.

    Args:
        in_channels: Channels of the encoder's levels.
        in_strides: Pixels per position of these levels.
        grid: Rows and columns on which positions are counted; those of the input if None.
        embed_dim: Channels D of the blocks.
        depth: Number of blocks.
        num_heads: Heads of their attention.
        mlp_ratio: Width of their MLPs, in multiples of ``embed_dim``.
        norm_eps: Epsilon of the layer norms.
        self_attn: Let the queries of predicted cells attend to each other before each cross-attention. What is
            predicted of a cell then depends on which others are.
        with_cp: Recompute the activations of the blocks in the backward pass to save memory.

    Raises:
        UserError: If there are no blocks or heads, or heads do not divide the channels.
    """

    takes = dict(grid='grid')

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        grid: tuple[int, int] | None = None,
        embed_dim: int = 512,
        depth: int = 12,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        norm_eps: float = 1e-6,
        self_attn: bool = False,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        check_blocks('CrossAttentionDecoder', embed_dim, depth, num_heads)
        self.out_channels, self.out_stride, self.with_cp = embed_dim, in_strides[-1], with_cp
        self.folds = tuple(self.out_stride // stride for stride in in_strides)
        width = in_channels[-1]
        self.projections = nn.ModuleList(
            nn.Identity() if (channels, factor) == (width, 1) else nn.Linear(channels * factor**2, width)
            for channels, factor in zip(in_channels, self.folds, strict=True)
        )
        self.self_attn = self_attn
        self.level_weights = nn.Parameter(torch.empty(depth, len(in_channels)))
        self.mask_token = nn.Parameter(torch.empty(embed_dim))
        self.positions = SincosPositions(embed_dim, grid)
        norm = partial(nn.LayerNorm, eps=norm_eps)
        self.blocks = nn.ModuleList(
            CrossAttentionBlock(embed_dim, width, num_heads, mlp_ratio, norm, self_attn) for _ in range(depth)
        )
        self.norm = norm(embed_dim)
        init_transformer(self)
        nn.init.normal_(self.level_weights, std=len(in_channels) ** -0.5)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, features: Features, cells: Cells) -> Tensor:
        """Decode the predicted cells; see :meth:`Decoder.forward`."""
        size = features.maps[-1].shape[-2:]
        mixtures = self._mixtures(features, cells.visible())  # (depth, B, P+V, C)
        predicted = cells.predicted()
        places = self.positions(size).to(self.mask_token.dtype)  # (L, D)
        queries = look_up_positions(places, None if predicted is None else predicted.indices(size))
        x = self.mask_token + queries.expand(len(cells.mask), -1, -1)  # (B, Q, D)
        attended = None
        if self.self_attn and predicted is None:  # all cells are decoded, and only the predicted ones may be seen
            attended = to_tokens(upsample(cells.predict, size)).mT[:, None]  # (B, 1, 1, L)
        for block, mixture in zip(self.blocks, mixtures, strict=True):
            x = self.run(block, x, mixture, attended)
        columns = size[1] if predicted is None else size[1] // predicted.grid[1]
        return unpack(to_map(self.norm(x), (-1, columns)), predicted)

    def _mixtures(self, features: Features, packing: Packing | None) -> Tensor:
        """Mix the levels into the prefix and visible tokens that each block attends to: (depth, B, P+V, C)."""
        levels = zip(features.maps, features.prefixes, self.folds, self.projections, strict=True)
        tokens = torch.stack([_tokens(x, prefix, factor, project, packing) for x, prefix, factor, project in levels])
        return (self.level_weights @ tokens.flatten(1)).view(-1, *tokens.shape[1:])


def _tokens(x: Tensor, prefix: Tensor | None, factor: int, project: nn.Module, packing: Packing | None) -> Tensor:
    """Return a level's prefix tokens and visible tokens (B, P+V, C), in the last level's channels."""
    x = project(to_tokens(pack(fold(x, factor), packing)))
    return x if prefix is None else torch.cat([project(prefix).to(x.dtype), x], dim=1)
