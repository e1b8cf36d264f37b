"""Attention with timm's modules and weights: of each token to all others, or to those that share its window.

timm's modules hold the weights; this module decides which tokens see each other. Tokens may be those of a whole
map or the visible ones alone.
"""

import math
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import linear, normalize, scaled_dot_product_attention

from mae_toolkit.errors import UserError
from mae_toolkit.models.layers.relative_positions import RelativePositions
from mae_toolkit.models.layers.windows import WindowPlan, assemble, partition
from mae_toolkit.timm_models import TimmModule


class Bias(Protocol):
    """Callable that computes the bias that is added to the scores of queries and keys."""

    def __call__(self, attn: TimmModule, q: Tensor, pairs: Tensor | None) -> Tensor | None:
        """Return the bias.

        Args:
            attn: timm's attention module.
            q: Queries (..., heads, S, d).
            pairs: (n, S, S), the places of query and key within the window (or the map) as one index of a table over
                all pairs of places, see :class:`~mae_toolkit.models.layers.windows.Group`; None for all places in
                raster order.

        Returns:
            (..., heads, S, S), or None for no bias.
        """
        ...


def no_bias(attn: TimmModule, q: Tensor, pairs: Tensor | None) -> None:
    """Add nothing to the scores."""
    return None


def constant_bias(bias: Tensor) -> Bias:
    """Add a given tensor (..., heads, S, S) to the scores, whatever the queries are."""
    return lambda attn, q, pairs: bias


def relative_bias(positions: RelativePositions, size: tuple[int, int]) -> Bias:
    """Add relative positions that depend on the queries, on a map or window of ``size`` tokens."""
    return lambda attn, q, pairs: positions(q, size, pairs)


def swin_bias(attn: TimmModule, q: Tensor, pairs: Tensor | None) -> Tensor:
    """Add the bias of Swin: learned per distance in V1, computed from the distance in V2."""
    if not hasattr(attn, 'logit_scale'):
        bias = attn._get_rel_pos_bias()[0]  # (heads, W, W)
    else:
        table = attn.cpb_mlp(attn.relative_coords_table).flatten(0, -2)  # (pairs that differ, heads)
        bias = 16 * torch.sigmoid(table[attn.relative_position_index]).permute(2, 0, 1)
    if pairs is None:
        return bias[None]  # (1, heads, W, W)
    picked = bias.flatten(1).index_select(1, pairs.flatten())  # its gradient is several times faster than indexing's
    return picked.unflatten(1, pairs.shape).transpose(0, 1)  # (n, heads, S, S)


class GlobalAttention:
    """Attention of every token to all tokens.

    Args:
        bias: What is added to the scores.
        pairs: (n, S, S), for a bias that asks for it; None for tokens of a whole map in raster order.

    Attributes:
        is_plain: Whether timm's own module computes the same.
    """

    def __init__(self, bias: Bias = no_bias, pairs: Tensor | None = None) -> None:
        self.bias, self.pairs = bias, pairs
        self.is_plain = bias is no_bias

    def __call__(self, attn: TimmModule, x: Tensor) -> Tensor:
        """Attend with timm's module ``attn`` over tokens (B, N, C)."""
        return finish(attn, attend(attn, project(attn, x), self.bias, self.pairs))

    def weights(self, attn: TimmModule, x: Tensor, queries: int) -> Tensor:
        """Compute how much the first tokens attend to all: the softmax within attention over tokens (B, N, C).

        Args:
            attn: timm's attention module.
            x: (B, N, C).
            queries: Number of the first tokens to take as queries.

        Returns:
            (B, heads, queries, N), float32 or finer.
        """
        q, k, _, scale = _heads(attn, project(attn, x))
        bias = self.bias(attn, q, None)
        scores = q[..., :queries, :] @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
        scores = scores if bias is None else scores + bias[..., :queries, :]
        return scores.to(torch.promote_types(scores.dtype, torch.float32)).softmax(-1)


class WindowAttention:
    """Attention of every token to the tokens of its window.

    On a whole map, windows at the border are padded. Given a plan, the tokens are the visible ones of the map.

    Args:
        bias: What is added to the scores.
        size: Rows and columns of the map, in tokens, as ``window`` and ``shift``.
        window: Rows and columns of a window.
        shift: Rows and columns by which the windows of a whole map are shifted; a plan has its own.
        separate: (n, 1, W or 1, W) bool, True for pairs of a window of a whole map that do not see each other, see
            :func:`~mae_toolkit.models.layers.windows.shift_mask`.
        plan: Which visible tokens share a window; None for a whole map.
    """

    is_plain = False

    def __init__(
        self,
        bias: Bias,
        size: tuple[int, int],
        window: tuple[int, int],
        shift: tuple[int, int] = (0, 0),
        separate: Tensor | None = None,
        plan: WindowPlan | None = None,
    ) -> None:
        self.bias, self.plan = bias, plan
        self.size, self.window, self.shift, self.separate = size, window, shift, separate

    def __call__(self, attn: TimmModule, x: Tensor) -> Tensor:
        """Attend with timm's module ``attn`` over tokens (B, ..., C) in raster order, or in the order of the plan."""
        attended = self._over_map(attn, x) if self.plan is None else self._over_visible(attn, x, self.plan)
        return finish(attn, attended).reshape(*x.shape[:-1], -1)

    def weights(self, attn: TimmModule, x: Tensor, queries: int) -> Tensor:
        """Refuse what :meth:`GlobalAttention.weights` computes: within windows, no token attends to all.

        Raises:
            UserError: In any case.
        """
        raise UserError('The last block attends within windows: make it global to look at its attention.')

    def _over_map(self, attn: TimmModule, x: Tensor) -> Tensor:
        x = x.reshape(x.shape[0], *self.size, -1)  # (B, h, w, C)
        qkv = project(attn, partition(x, self.window, self.shift)).unflatten(0, (x.shape[0], -1))  # (B, n, W, 3C)
        out = attend(attn, qkv, self.bias, allowed=None if self.separate is None else ~self.separate)
        return assemble(out.flatten(0, 1), self.size, self.window, self.shift)

    def _over_visible(self, attn: TimmModule, x: Tensor, plan: WindowPlan) -> Tensor:
        groups = zip(plan.groups, plan.spread(project(attn, x).flatten(0, -2)), strict=True)
        return plan.collect([attend(attn, qkv, self.bias, group.pairs, ~group.padding) for group, qkv in groups])


def project(attn: TimmModule, x: Tensor) -> Tensor:
    """Compute queries, keys and values (..., 3C) of tokens (..., C)."""
    if getattr(attn, 'q_bias', None) is None:
        return attn.qkv(x)
    return linear(x, attn.qkv.weight, torch.cat([attn.q_bias, attn.k_bias, attn.v_bias]))


def attend(
    attn: TimmModule, qkv: Tensor, bias: Bias, pairs: Tensor | None = None, allowed: Tensor | None = None
) -> Tensor:
    """Let each token of a group attend to the others: (..., S, 3C) -> (..., S, C).

    Args:
        attn: timm's attention module.
        qkv: Queries, keys and values of groups of S tokens.
        bias: What is added to the scores.
        pairs: See :class:`Bias`.
        allowed: (..., S or 1, S) bool, False for keys that a query does not see.
    """
    q, k, v, scale = _heads(attn, qkv)
    mask = bias(attn, q, pairs)
    if mask is None:
        mask = allowed
    else:
        mask = (mask if allowed is None else mask.masked_fill(~allowed, -torch.inf)).to(q.dtype)
    out = scaled_dot_product_attention(q, k, v, mask, dropout_p=attn.attn_drop.p if attn.training else 0.0, scale=scale)
    return out.transpose(-3, -2).flatten(-2)


def finish(attn: TimmModule, x: Tensor) -> Tensor:
    """Apply the last layers of an attention module to its output (..., C)."""
    return attn.proj_drop(attn.proj(getattr(attn, 'norm', _same)(x)))


def _heads(attn: TimmModule, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor, float | None]:
    """Split (..., S, 3C) into queries, keys and values (..., heads, S, d), and the factor of the scores if unusual."""
    q, k, v = qkv.unflatten(-1, (3, attn.num_heads, -1)).movedim(-3, 0).transpose(-3, -2)
    q, k = getattr(attn, 'q_norm', _same)(q), getattr(attn, 'k_norm', _same)(k)
    if not hasattr(attn, 'logit_scale'):
        return q, k, v, None
    # cosines, with a temperature per head (arXiv:2111.09883, equation 2)
    return normalize(q, dim=-1) * attn.logit_scale.clamp(max=math.log(100)).exp(), normalize(k, dim=-1), v, 1.0


def _same(x: Tensor) -> Tensor:
    return x
