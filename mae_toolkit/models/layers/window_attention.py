"""The attention of Swin V1 and V2 on windows, with timm's modules and weights."""

import math

import torch
from torch.nn.functional import linear, normalize, scaled_dot_product_attention

from mae_toolkit.models.layers.windows import apart, assemble, partition


def attend_visible(attn, x, plan):
    """Attention over the visible tokens of each window.

    Args:
        attn (nn.Module): timm's ``WindowAttention``, of V1 or V2.
        x (Tensor): (B, V*u, u, C), packed tokens.
        plan (WindowPlan): Which tokens share a window.
    """
    table = bias_table(attn).flatten(1)  # (heads, W*W)
    parts = []
    for group, qkv in zip(plan.groups, plan.spread(project(attn, x).flatten(0, 2)), strict=True):
        bias = table[:, group.pairs].transpose(0, 1)  # (n, heads, S, S)
        parts.append(_attend(attn, qkv, bias.masked_fill(group.padding, -torch.inf)))
    return attn.proj_drop(attn.proj(plan.collect(parts).view(*x.shape[:-1], -1)))


def attend_whole(attn, x, shift):
    """Attention over all tokens of each window of maps (B, h, w, C); windows at the border are padded."""
    size, window = x.shape[1:3], attn.window_size
    bias = bias_table(attn)[None]  # (1, heads, W, W)
    parted = apart(size, window, shift, x.device)
    if parted is not None:
        bias = bias.masked_fill(parted, -torch.inf)  # (n, heads, W, W)
    qkv = project(attn, partition(x, window, shift))  # (B*n, W, 3C)
    out = _attend(attn, qkv.unflatten(0, (len(x), -1)), bias)  # (B, n, W, C)
    return attn.proj_drop(attn.proj(assemble(out.flatten(0, 1), size, window, shift)))


def project(attn, x):
    """Queries, keys and values (..., 3C) of tokens (..., C)."""
    if not hasattr(attn, 'logit_scale'):
        return attn.qkv(x)
    bias = None if attn.q_bias is None else torch.cat([attn.q_bias, attn.k_bias, attn.v_bias])
    return linear(x, attn.qkv.weight, bias)


def bias_table(attn):
    """The bias (heads, W, W) of each pair of places in a window: learned, or in V2 computed from their distance."""
    if not hasattr(attn, 'logit_scale'):
        return attn._get_rel_pos_bias()[0]
    table = attn.cpb_mlp(attn.relative_coords_table).flatten(0, -2)  # (pairs that differ, heads)
    return 16 * torch.sigmoid(table[attn.relative_position_index]).permute(2, 0, 1)


def _attend(attn, qkv, bias):
    """Tokens (..., S, 3C) and a bias (..., heads, S, S) to (..., S, C)."""
    q, k, v = qkv.unflatten(-1, (3, attn.num_heads, -1)).movedim(-3, 0).transpose(-3, -2)  # (..., heads, S, d)
    scale = None
    if hasattr(attn, 'logit_scale'):  # cosines, with a temperature per head (arXiv:2111.09883, equation 2)
        q, k = normalize(q, dim=-1) * attn.logit_scale.clamp(max=math.log(100)).exp(), normalize(k, dim=-1)
        scale = 1.0
    drop = attn.attn_drop.p if attn.training else 0.0
    out = scaled_dot_product_attention(q, k, v, bias.to(q.dtype), dropout_p=drop, scale=scale)
    return out.transpose(-3, -2).flatten(-2)
