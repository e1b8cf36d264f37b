"""The blocks of a plain vision transformer on the visible tokens, with attention over the map or within windows."""

from collections.abc import Sequence
from typing import Any

import torch
from timm.models.eva import EvaBlockPostNorm
from timm.models.vision_transformer import ResPostBlock
from torch import Tensor

from mae_toolkit.errors import UserError
from mae_toolkit.models.cells import Packing
from mae_toolkit.models.layers.attention import (
    Bias,
    GlobalAttention,
    WindowAttention,
    constant_bias,
    no_bias,
    relative_bias,
)
from mae_toolkit.models.layers.relative_positions import RelativePositions, look_up_table_bias
from mae_toolkit.models.layers.rotary import (
    RotaryAttention,
    RotaryWindowAttention,
    compute_rotations,
    look_up_rotations,
)
from mae_toolkit.models.layers.windows import WindowPlan, padding_mask, plan_windows
from mae_toolkit.timm_models import TimmModule

Attention = GlobalAttention | WindowAttention | RotaryAttention
Window = tuple[int, int]
# Blocks whose norms follow attention and MLP.
POST_NORM = (EvaBlockPostNorm, ResPostBlock)


def plan_attention(
    body: TimmModule,
    packing: Packing | None,
    size: tuple[int, int],
    windows: Sequence[Window | None],
    rel_pos: Sequence[RelativePositions],
) -> list[Attention]:
    """Decide for each block which tokens see each other.

    Args:
        body: timm's ``VisionTransformer`` or ``Beit``.
        packing: The visible tokens; None for all.
        size: Rows and columns of the map of tokens.
        windows: Per block rows and columns of its windows, or None for global attention.
        rel_pos: The relative positions of each block, or nothing.
    """
    ids = None if packing is None else packing.indices(size)  # (B, V)
    if getattr(body, 'rel_pos_bias', None) is not None:
        shared = body.rel_pos_bias
        table = look_up_table_bias(shared.relative_position_bias_table, shared.window_size, size, ids)
        return [GlobalAttention(constant_bias(table))] * len(body.blocks)
    shared_windows = _plan_windows(body, packing, size, windows)
    pairs = ids[:, :, None] * (size[0] * size[1]) + ids[:, None] if rel_pos and ids is not None else None  # (B, V, V)
    attentions: list[Attention] = []
    for i, (block, window) in enumerate(zip(body.blocks, windows, strict=True)):
        bias = relative_bias(rel_pos[i], window or size) if rel_pos else _table_bias(block, size, ids)
        if window is None:
            attentions.append(GlobalAttention(bias, pairs))
        else:
            attentions.append(WindowAttention(bias, size, window, **shared_windows[window]))
    return attentions


def plan_rotary_attention(
    body: TimmModule, packing: Packing | None, size: tuple[int, int], windows: Sequence[Window | None]
) -> list[Attention]:
    """Decide for each block which tokens see each other, and look up the rotations of their places.

    Args:
        body: timm's ``Eva``, made for images of any size.
        packing: The visible tokens; None for all.
        size: Rows and columns of the map of tokens.
        windows: Per block rows and columns of its windows, or None for global attention.
    """
    shared_windows = _plan_windows(body, packing, size, windows)
    table = None if body.rope is None else compute_rotations(body.rope, size)
    ids = None if packing is None else packing.indices(size)  # (B, V)
    own = table is not None and table.dim() == 4  # learned for each block
    attentions: dict[tuple[int | None, Window | None], Attention] = {}
    chosen = []
    for i, window in enumerate(windows):
        key = (i if own else None, window)
        if key not in attentions:
            rotations = None if table is None else look_up_rotations(table[i] if own else table, ids)
            attentions[key] = (
                RotaryAttention(rotations)
                if window is None
                else RotaryWindowAttention(rotations, size, window, **shared_windows[window])
            )
        chosen.append(attentions[key])
    return chosen


def run_block(block: TimmModule, x: Tensor, attention: Attention) -> Tensor:
    """Run timm's block of ViT, BEiT or Eva on tokens (B, N, C), which see each other as ``attention`` says."""
    if isinstance(attention, RotaryAttention):
        return attention.run(block, x)
    if attention.is_plain:
        return block(x)
    x = x + block.drop_path1(_scale(block, 1, attention(block.attn, block.norm1(x))))
    return x + block.drop_path2(_scale(block, 2, block.mlp(block.norm2(x))))


def attention_weights(block: TimmModule, x: Tensor, attention: Attention, queries: int) -> Tensor:
    """Compute the attention (B, heads, queries, N) of the first tokens of a block's input to all of them.

    Args:
        block: timm's block.
        x: (B, N, C).
        attention: The attention that :func:`plan_attention` chose for the block.
        queries: Number of the first tokens to take as queries.

    Raises:
        UserError: If the block attends within windows, or has no attention module of timm.
    """
    attn = getattr(block, 'attn', None)
    if not hasattr(attn, 'qkv') or not hasattr(block, 'norm1'):
        raise UserError(f'A {type(block).__name__} has no attention weights to look at: choose another network.')
    return attention.weights(attn, x if isinstance(block, POST_NORM) else block.norm1(x), queries)


def _table_bias(block: TimmModule, size: tuple[int, int], ids: Tensor | None) -> Bias:
    """Return the bias of a block of BEiT that has its own table, else no bias."""
    attn: TimmModule = getattr(block, 'attn', None)  # parallel blocks have it in other ways
    table = getattr(attn, 'relative_position_bias_table', None)
    return no_bias if table is None else constant_bias(look_up_table_bias(table, attn.window_size, size, ids))


def _plan_windows(
    body: TimmModule, packing: Packing | None, size: tuple[int, int], windows: Sequence[Window | None]
) -> dict[Window, dict[str, Any]]:
    """Return what the blocks with the same windows share: arguments of their attention, by window."""
    kinds = {window for window in windows if window is not None}
    if packing is not None:
        return {window: dict(plan=_plan(packing, size, window)) for window in kinds}
    device = body.patch_embed.proj.weight.device
    return {window: dict(separate=padding_mask(size, window, device)) for window in kinds}


@torch.compiler.disable  # it waits for the device
def _plan(packing: Packing, size: tuple[int, int], window: Window) -> WindowPlan:
    return plan_windows(packing, size, window, (0, 0))


def _scale(block: TimmModule, which: int, x: Tensor) -> Tensor:
    """Apply a layer scale, which is a module in ViT, and a parameter or None in BEiT."""
    if hasattr(block, f'ls{which}'):
        return getattr(block, f'ls{which}')(x)
    gamma = getattr(block, f'gamma_{which}')
    return x if gamma is None else gamma * x
