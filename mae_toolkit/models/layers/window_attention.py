"""Attention with timm's modules and weights, over whole windows or the visible tokens of each.

A *bias* is a function of an attention module, its queries (..., heads, S, d) and the pairs (n, S, S) of their places
(see :class:`~mae_toolkit.models.layers.windows.Group`; None for all places of a window in raster order), that gives
(..., heads, S, S) to add to the scores, or None.
"""

import math

import torch
from torch.nn.functional import linear, normalize, scaled_dot_product_attention

from mae_toolkit.models.layers.windows import assemble, partition


def attend_visible(attn, x, plan, bias):
    """Attention over the visible tokens of each window.

    Args:
        attn (nn.Module): timm's ``Attention`` or ``WindowAttention``.
        x (Tensor): (B, ..., C), tokens in the order of the plan.
        plan (WindowPlan): Which tokens share a window.
        bias (Callable): See above.
    """
    groups = zip(plan.groups, plan.spread(project(attn, x).flatten(0, -2)), strict=True)
    parts = [attend(attn, qkv, bias, group.pairs, ~group.padding) for group, qkv in groups]
    return finish(attn, plan.collect(parts).view(*x.shape[:-1], -1))


def attend_whole(attn, x, window, shift, bias, apart=None):
    """Attention over all tokens of each window of maps (B, h, w, C); windows at the border are padded.

    Args:
        attn (nn.Module), x (Tensor), bias (Callable): As above.
        window (tuple[int, int]), shift (tuple[int, int]): In tokens.
        apart (Tensor | None): (n, 1, W or 1, W) bool, True for pairs of a window that do not see each other.
    """
    size = x.shape[1:3]
    qkv = project(attn, partition(x, window, shift)).unflatten(0, (x.shape[0], -1))  # (B, n, W, 3C)
    out = attend(attn, qkv, bias, allowed=None if apart is None else ~apart)
    return finish(attn, assemble(out.flatten(0, 1), size, window, shift))


def project(attn, x):
    """Queries, keys and values (..., 3C) of tokens (..., C)."""
    if getattr(attn, 'q_bias', None) is None:
        return attn.qkv(x)
    return linear(x, attn.qkv.weight, torch.cat([attn.q_bias, attn.k_bias, attn.v_bias]))


def attend(attn, qkv, bias, pairs=None, allowed=None):
    """Tokens (..., S, 3C) to (..., S, C), each over the others of its group; ``allowed`` (..., S or 1, S) bool."""
    q, k, v, scale = _heads(attn, qkv)
    mask = bias(attn, q, pairs)
    if mask is None:
        mask = allowed
    else:
        mask = (mask if allowed is None else mask.masked_fill(~allowed, -torch.inf)).to(q.dtype)
    out = scaled_dot_product_attention(q, k, v, mask, dropout_p=attn.attn_drop.p if attn.training else 0.0, scale=scale)
    return out.transpose(-3, -2).flatten(-2)


def attention(attn, x, bias, queries):
    """How much the first tokens attend to all: the softmax within attention over tokens (B, N, C).

    Args:
        attn (nn.Module), bias (Callable): As above.
        x (Tensor): (B, N, C).
        queries (int): How many of the first tokens.

    Returns:
        Tensor: (B, heads, queries, N), float32 or finer.
    """
    q, k, _, scale = _heads(attn, project(attn, x))
    mask = bias(attn, q, None)
    scores = q[..., :queries, :] @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
    scores = scores if mask is None else scores + mask[..., :queries, :]
    return scores.to(torch.promote_types(scores.dtype, torch.float32)).softmax(-1)


def _heads(attn, qkv):
    """Queries, keys and values (..., heads, S, d) of (..., S, 3C), and the factor of the scores, None for the usual."""
    q, k, v = qkv.unflatten(-1, (3, attn.num_heads, -1)).movedim(-3, 0).transpose(-3, -2)
    q, k = getattr(attn, 'q_norm', _same)(q), getattr(attn, 'k_norm', _same)(k)
    if not hasattr(attn, 'logit_scale'):
        return q, k, v, None
    # cosines, with a temperature per head (arXiv:2111.09883, equation 2)
    return normalize(q, dim=-1) * attn.logit_scale.clamp(max=math.log(100)).exp(), normalize(k, dim=-1), v, 1.0


def finish(attn, x):
    """What an attention module does with what was attended to (..., C)."""
    return attn.proj_drop(attn.proj(getattr(attn, 'norm', _same)(x)))


def swin_bias(attn, q, pairs):
    """The bias of Swin: learned, or in V2 computed from the distance."""
    if not hasattr(attn, 'logit_scale'):
        bias = attn._get_rel_pos_bias()[0]  # (heads, W, W)
    else:
        table = attn.cpb_mlp(attn.relative_coords_table).flatten(0, -2)  # (pairs that differ, heads)
        bias = 16 * torch.sigmoid(table[attn.relative_position_index]).permute(2, 0, 1)
    if pairs is None:
        return bias[None]  # (1, heads, W, W)
    picked = bias.flatten(1).index_select(1, pairs.flatten())  # its gradient is several times faster than indexing's
    return picked.unflatten(1, pairs.shape).transpose(0, 1)  # (n, heads, S, S)


def no_bias(attn, q, pairs):
    """No bias at all."""
    return None


def _same(x):
    return x
