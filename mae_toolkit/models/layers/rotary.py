"""Attention with rotary positions, which belong to the places of tokens and not to their order.

timm's attention modules do all of it: they rotate queries and keys by the given sines and cosines, but those of the
prefix tokens. This module gives them the tokens that see each other and the rotations of their places.

Rotations are tensors (B, heads, N, 2d) of N tokens without the prefix tokens: d sines and d cosines for the d channels
of a head. B is 1 for a whole map, which has the same in each image, and heads is 1 where they are the same in all.
"""

from collections.abc import Sequence

import torch
from timm.layers import RotaryEmbeddingDinoV3, apply_rot_embed_cat
from torch import Tensor

from mae_toolkit.models.layers.attention import WindowAttention, no_bias, project
from mae_toolkit.models.layers.positions import look_up_positions
from mae_toolkit.models.layers.windows import WindowPlan, assemble, partition
from mae_toolkit.timm_models import TimmModule


class RotaryAttention:
    """Attention of every token to all tokens.

    Args:
        rotations: (B, heads, N, 2d), or None for no rotation.
    """

    def __init__(self, rotations: Tensor | None) -> None:
        self.rotations = rotations

    def run(self, block: TimmModule, x: Tensor) -> Tensor:
        """Run timm's block on tokens (B, P+N, C)."""
        return block(x, rope=self.rotations)

    def weights(self, attn: TimmModule, x: Tensor, queries: int) -> Tensor:
        """Compute how much the first tokens attend to all: the softmax within attention over tokens (B, P+N, C).

        Args:
            attn: timm's attention module.
            x: (B, P+N, C).
            queries: Number of the first tokens to take as queries.

        Returns:
            (B, heads, queries, P+N), float32 or finer.
        """
        q, k = (self._rotate(attn, tokens) for tokens in _queries_and_keys(attn, x))
        k = k.repeat_interleave(q.shape[1] // k.shape[1], 1)  # of grouped queries
        scores = q[..., :queries, :] @ k.mT * attn.scale
        return scores.to(torch.promote_types(scores.dtype, torch.float32)).softmax(-1)

    def _rotate(self, attn: TimmModule, x: Tensor) -> Tensor:
        """Rotate queries or keys (B, heads, P+N, d), but those of the prefix tokens."""
        if self.rotations is None:
            return x
        prefix, places = x.tensor_split([attn.num_prefix_tokens], dim=2)
        return torch.cat([prefix, apply_rot_embed_cat(places, self.rotations, half=attn.rotate_half)], 2)


class RotaryWindowAttention(WindowAttention):
    """Attention of every token to the tokens of its window, without prefix tokens.

    Args:
        rotations: (B, heads, N, 2d), or None for no rotation.
        size: Rows and columns of the map, in tokens.
        window: Rows and columns of a window.
        separate: (n, 1, 1, W) bool, True for places of a window that lie beyond a whole map, or None.
        plan: Which visible tokens share a window; None for a whole map.
    """

    def __init__(
        self,
        rotations: Tensor | None,
        size: tuple[int, int],
        window: tuple[int, int],
        separate: Tensor | None = None,
        plan: WindowPlan | None = None,
    ) -> None:
        super().__init__(no_bias, size, window, separate=separate, plan=plan)
        self.rotations: Sequence[Tensor | None]
        if rotations is None:
            self.rotations = [None] * (1 if plan is None else len(plan.groups))
        elif plan is None:
            self.rotations = [_partition_rotations(rotations, size, window)]
        else:
            spread = plan.spread(rotations.transpose(1, 2).flatten(0, 1).flatten(1))  # (n, S, heads*2d) per group
            self.rotations = [x.unflatten(-1, (rotations.shape[1], -1)).transpose(1, 2) for x in spread]

    def __call__(self, attn: TimmModule, x: Tensor) -> Tensor:
        """Attend with timm's module ``attn`` over tokens (B, N, C) in raster order, or in the order of the plan."""
        return self._rotate_over_map(attn, x) if self.plan is None else self._rotate_over_visible(attn, x, self.plan)

    def _rotate_over_map(self, attn: TimmModule, x: Tensor) -> Tensor:
        windows = partition(x.unflatten(1, self.size), self.window, self.shift)  # (B*n, W, C)
        allowed = None if self.separate is None else ~self.separate
        rotations, allowed = (
            None if t is None else t.repeat(x.shape[0], 1, 1, 1) for t in (self.rotations[0], allowed)
        )
        out = attn(windows, rope=rotations, attn_mask=allowed)
        return assemble(out, self.size, self.window, self.shift).flatten(1, 2)

    def _rotate_over_visible(self, attn: TimmModule, x: Tensor, plan: WindowPlan) -> Tensor:
        groups = zip(plan.groups, plan.spread(x.flatten(0, 1)), self.rotations, strict=True)
        parts = [attn(tokens, rope=rotations, attn_mask=~group.padding) for group, tokens, rotations in groups]
        return plan.collect(parts).view_as(x)


def compute_rotations(rope: TimmModule, size: tuple[int, int]) -> Tensor:
    """Compute the rotations of all places of a map: (L, 2d) in raster order, or (depth, heads, L, 2d) if learned.

    They are those of timm's ``rope``. DINOv3's are computed on its own device, and in a way that can be traced for
    images of any size.

    Args:
        rope: timm's module of rotary positions, made for maps of any size.
        size: Rows and columns of the map.
    """
    if not isinstance(rope, RotaryEmbeddingDinoV3) or (rope.training and rope.aug_active):
        return rope.get_embed(shape=size)
    device = rope.periods.device
    sides = [(torch.arange(n, dtype=torch.float32, device=device) + 0.5 + rope.grid_offset) / n for n in size]
    centers = 2 * torch.stack(torch.meshgrid(sides, indexing='ij'), -1).flatten(0, 1) - 1  # (L, 2), from -1 to 1
    return torch.cat(rope._get_pos_embed_from_coords(centers), -1)


def look_up_rotations(table: Tensor, ids: Tensor | None) -> Tensor:
    """Look up rotations (B, heads, N, 2d) of the tokens at places ``ids``.

    Args:
        table: (L, 2d) or (heads, L, 2d) in raster order, as timm gives them.
        ids: Indices (B, N) of places; None for all of them, then B is 1.
    """
    table = table.unsqueeze(0) if table.dim() == 2 else table
    rows = look_up_positions(table.transpose(0, 1).flatten(1), ids)  # (B, N, heads*2d)
    return rows.unflatten(-1, (len(table), -1)).transpose(1, 2)


def _partition_rotations(rotations: Tensor, size: tuple[int, int], window: tuple[int, int]) -> Tensor:
    """Cut the rotations (1, heads, L, 2d) of a map into those of its windows (n, heads, W, 2d), zero beyond it."""
    heads = rotations[0]
    return partition(heads.unflatten(1, size), window, (0, 0)).unflatten(0, (len(heads), -1)).transpose(0, 1)


def _queries_and_keys(attn: TimmModule, x: Tensor) -> tuple[Tensor, Tensor]:
    """Compute queries and keys (B, heads, N, d) of tokens (B, N, C) before they are rotated."""
    if attn.qkv is None:
        q, k = attn.q_proj(x), attn.k_proj(x)
    else:
        q, k, _ = project(attn, x).chunk(3, -1)
    q, k = (tokens.unflatten(-1, (-1, attn.head_dim)).transpose(1, 2) for tokens in (q, k))
    return attn.q_norm(q), attn.k_norm(k)
