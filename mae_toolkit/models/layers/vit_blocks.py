"""The blocks of a plain vision transformer on the visible tokens, with attention over the map or within windows."""

from functools import partial

import torch

from mae_toolkit.errors import UserError
from mae_toolkit.models.layers.relative_positions import table_bias
from mae_toolkit.models.layers.window_attention import (
    attend,
    attend_visible,
    attend_whole,
    attention,
    finish,
    no_bias,
    project,
)
from mae_toolkit.models.layers.windows import outside, plan_windows


def attentions(body, packing, size, windows, rel_pos):
    """Per block, a function of its attention module and tokens (B, P+V, C), or None for timm's own block as it is.

    Args:
        body (VisionTransformer | Beit): The timm model.
        packing (Packing | None): The tokens on the map; None for all.
        size (tuple[int, int]): Rows and columns of the map.
        windows (tuple): Per block rows and columns of its windows, or None.
        rel_pos (Sequence[RelativePositions]): Per block, or none.
    """
    ids = None if packing is None else packing.indices(size)  # (B, V)
    if getattr(body, 'rel_pos_bias', None) is not None:
        shared = body.rel_pos_bias
        bias = table_bias(shared.relative_position_bias_table, shared.window_size, size, ids)
        return [partial(over_map, bias=partial(given, bias))] * len(body.blocks)
    attns = [getattr(block, 'attn', None) for block in body.blocks]  # parallel blocks have it in other ways
    tables = [getattr(attn, 'relative_position_bias_table', None) for attn in attns]
    kinds = {w for w in windows if w is not None}
    plans = {w: _plan(packing, size, w) for w in kinds if packing is not None}
    beyond = {w: outside(size, w, body.patch_embed.proj.weight.device) for w in kinds if ids is None}
    pairs = ids[:, :, None] * (size[0] * size[1]) + ids[:, None] if rel_pos and ids is not None else None  # (B, V, V)
    steps = []
    for i, (window, table) in enumerate(zip(windows, tables, strict=True)):
        bias = partial(relative, rel_pos[i], window or size) if rel_pos else no_bias
        if table is not None:
            own = table_bias(table, body.blocks[i].attn.window_size, size, ids)
            steps.append(partial(over_map, bias=partial(given, own)))
        elif window is None:
            steps.append(partial(over_map, bias=bias, pairs=pairs) if rel_pos else None)
        elif ids is None:
            steps.append(partial(over_windows, size=size, window=window, bias=bias, beyond=beyond[window]))
        else:
            steps.append(partial(attend_visible, plan=plans[window], bias=bias))
    return steps


def run_block(block, x, attend=None):
    """timm's block of ViT or BEiT on tokens (B, N, C), its attention replaced if one is given."""
    if attend is None:
        return block(x)
    x = x + block.drop_path1(_scaled(block, 1, attend(block.attn, block.norm1(x))))
    return x + block.drop_path2(_scaled(block, 2, block.mlp(block.norm2(x))))


def attention_of(block, x, step, queries):
    """Attention (B, heads, queries, N) of the first tokens of a block's input (B, N, C) to all of them.

    Args:
        block (nn.Module): timm's block.
        x (Tensor): (B, N, C).
        step (Callable | None): What :func:`attentions` has for the block.
        queries (int): How many of the first tokens.

    Raises:
        UserError: If the block attends within windows, or has no attention of the usual kind.
    """
    attn = getattr(block, 'attn', None)
    if not hasattr(attn, 'qkv') or not hasattr(block, 'norm1'):
        raise UserError(f'A {type(block).__name__} has no attention that could be looked at: choose another network.')
    if step is not None and step.func is not over_map:
        raise UserError('The last block attends within windows: make it global to look at its attention.')
    bias = no_bias if step is None else step.keywords['bias']
    return attention(attn, block.norm1(x), bias, queries)


def over_map(attn, x, bias, pairs=None):
    """Attention over all tokens (B, N, C)."""
    return finish(attn, attend(attn, project(attn, x), bias, pairs))


def over_windows(attn, x, size, window, bias, beyond):
    """Attention within windows of a whole map, given as tokens (B, L, C); what lies beyond the map is not seen."""
    return attend_whole(attn, x.unflatten(1, size), window, (0, 0), bias, beyond).flatten(1, 2)


def given(bias, attn, q, pairs):
    """A bias that does not depend on the queries."""
    return bias


def relative(positions, size, attn, q, pairs):
    """The bias of :class:`~mae_toolkit.models.layers.relative_positions.RelativePositions`."""
    return positions(q, size, pairs)


@torch.compiler.disable  # it waits for the device
def _plan(packing, size, window):
    return plan_windows(packing, size, window, (0, 0))


def _scaled(block, which, x):
    """The layer scale of ViT is a module, that of BEiT a parameter or None."""
    if hasattr(block, f'ls{which}'):
        return getattr(block, f'ls{which}')(x)
    gamma = getattr(block, f'gamma_{which}')
    return x if gamma is None else gamma * x
