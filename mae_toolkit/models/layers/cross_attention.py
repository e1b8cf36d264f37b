"""Transformer blocks whose queries see the context, and optionally each other."""

from collections.abc import Callable

from timm.layers import Attention, Mlp
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


class CrossAttention(nn.Module):
    """Attention of queries (B, Q, D) to a context (B, N, C).

    Args:
        dim: Channels D of the queries.
        context_dim: Channels C of the context.
        num_heads: Heads, which divide D.
    """

    def __init__(self, dim: int, context_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q, self.kv, self.proj = nn.Linear(dim, dim), nn.Linear(context_dim, 2 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Attend: (B, Q, D), (B, N, C) -> (B, Q, D)."""
        q = self._heads(self.q(x))  # (B, heads, Q, D/heads)
        k, v = (self._heads(part) for part in self.kv(context).chunk(2, dim=-1))  # (B, heads, N, D/heads)
        return self.proj(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class CrossAttentionBlock(nn.Module):
    """Cross-attention and an MLP, each on normalized input and added (CrossMAE, arXiv:2401.14391, section 3.2).

    Args:
        dim: Channels D of the queries.
        context_dim: Channels C of the context.
        num_heads: Heads of the attention.
        mlp_ratio: Width of the MLP, in multiples of D.
        norm: Makes a layer norm for a number of channels.
        self_attn: Let the queries attend to each other first (the official code's ``self_attn``).
    """

    def __init__(
        self,
        dim: int,
        context_dim: int,
        num_heads: int,
        mlp_ratio: float,
        norm: Callable[[int], nn.Module],
        self_attn: bool = False,
    ) -> None:
        super().__init__()
        if self_attn:
            self.norm0, self.self_attn = norm(dim), Attention(dim, num_heads, qkv_bias=True)
        self.norm_context = norm(context_dim)
        self.norm1, self.cross_attn = norm(dim), CrossAttention(dim, context_dim, num_heads)
        self.norm2, self.mlp = norm(dim), Mlp(dim, int(dim * mlp_ratio))

    def forward(self, x: Tensor, context: Tensor, attended: Tensor | None = None) -> Tensor:
        """Run the block.

        Args:
            x: Queries (B, Q, D).
            context: (B, N, C), not yet normalized.
            attended: Which queries the others may attend to, (B, 1, 1, Q) bool; all if None.

        Returns:
            (B, Q, D).
        """
        if hasattr(self, 'self_attn'):
            x = x + self.self_attn(self.norm0(x), attn_mask=attended)
        x = x + self.cross_attn(self.norm1(x), self.norm_context(context))
        return x + self.mlp(self.norm2(x))
