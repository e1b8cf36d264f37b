"""The decoder of MAE."""

from functools import partial

import torch
from timm.models.vision_transformer import Block
from torch import nn
from torch.utils.checkpoint import checkpoint

from mae_toolkit.errors import UserError
from mae_toolkit.models.decoders.decoder import Decoder
from mae_toolkit.models.layers.init import init_transformer
from mae_toolkit.models.layers.positions import sincos_positions
from mae_toolkit.models.mask_ops import to_map, to_tokens, upsample
from mae_toolkit.registry import MODELS


@MODELS.register_module()
class TransformerDecoder(Decoder):
    """Transformer blocks over all cells, a learned token at the hidden ones (MAE, arXiv:2111.06377, section 3).

    The deepest level's prefix tokens take part. Finer levels are folded to the deepest stride
    (``pixel_unshuffle``), projected and added. Positions are fixed sine-cosine, stretched to the input.

    Args:
        in_channels (tuple[int, ...]), in_strides (tuple[int, ...]): The encoder's levels.
        grid (tuple[int, int] | None): Rows and columns on which positions are counted; those of the input if None.
        embed_dim (int), depth (int), num_heads (int), mlp_ratio (float): Of the blocks.
        norm_eps (float): Epsilon of the layer norms.
        with_cp (bool): Recompute activations in the backward pass to save memory.
    """

    def __init__(
        self,
        in_channels,
        in_strides,
        grid=None,
        embed_dim=512,
        depth=8,
        num_heads=16,
        mlp_ratio=4.0,
        norm_eps=1e-6,
        with_cp=False,
    ):
        super().__init__()
        if depth < 1 or num_heads < 1:
            raise UserError(f'TransformerDecoder: depth={depth} and num_heads={num_heads} are 1 or more.')
        if embed_dim % num_heads:
            raise UserError(f'TransformerDecoder: {num_heads} heads do not divide embed_dim={embed_dim}.')
        self.out_channels, self.out_stride = embed_dim, max(in_strides)
        self.folds = tuple(self.out_stride // stride for stride in in_strides)
        self.grid, self.with_cp = grid, with_cp
        norm = partial(nn.LayerNorm, eps=norm_eps)
        inputs = [channels * fold**2 for channels, fold in zip(in_channels, self.folds, strict=True)]
        self.embed = nn.ModuleList(nn.Linear(channels, embed_dim) for channels in inputs)
        self.mask_token = nn.Parameter(torch.empty(embed_dim))
        self.blocks = nn.ModuleList(
            Block(embed_dim, num_heads, mlp_ratio, qkv_bias=True, norm_layer=norm) for _ in range(depth)
        )
        self.norm = norm(embed_dim)
        if grid is not None:  # the usual size; other sizes are computed when they come
            self.register_buffer('positions', sincos_positions(embed_dim, grid), persistent=False)  # (L, D)
        init_transformer(self)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, features, mask, predict, num_visible=None, num_predict=None):
        """Decode all cells; see :meth:`Decoder.forward`."""
        size = features.maps[-1].shape[-2:]
        x = sum(embed(to_tokens(_fold(x, fold))) for embed, x, fold in zip(self.embed, features.maps, self.folds))
        hidden = to_tokens(upsample(mask, size))  # (B, L, 1)
        x = torch.where(hidden, self.mask_token.to(x.dtype), x)  # (B, L, D)
        x = x + self._positions(size, x.device).to(self.mask_token.dtype)
        prefix = features.prefixes[-1]
        num_prefix = 0 if prefix is None else prefix.shape[1]
        if num_prefix:
            x = torch.cat([self.embed[-1](prefix).to(x.dtype), x], dim=1)  # (B, P+L, D)
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.with_cp and self.training else block(x)
        return to_map(self.norm(x)[:, num_prefix:], size)

    def _positions(self, size, device):
        if self.grid is not None and tuple(size) == tuple(self.grid):
            return self.positions
        return sincos_positions(self.out_channels, tuple(size), self.grid, device)


def _fold(x, fold):
    return nn.functional.pixel_unshuffle(x, fold) if fold > 1 else x
