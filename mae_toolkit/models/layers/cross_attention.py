"""Transformer blocks whose queries see the context alone, not each other."""

from timm.layers import Mlp
from torch import nn
from torch.nn.functional import scaled_dot_product_attention


class CrossAttention(nn.Module):
    """Attention of queries (B, Q, D) to a context (B, N, C).

    Args:
        dim (int), context_dim (int): Channels D and C.
        num_heads (int): Heads.
    """

    def __init__(self, dim, context_dim, num_heads):
        super().__init__()
        self.num_heads = num_heads
        self.q, self.kv, self.proj = nn.Linear(dim, dim), nn.Linear(context_dim, 2 * dim), nn.Linear(dim, dim)

    def forward(self, x, context):
        """(B, Q, D), (B, N, C) -> (B, Q, D)."""
        q = self._heads(self.q(x))  # (B, heads, Q, D/heads)
        k, v = (self._heads(part) for part in self.kv(context).chunk(2, dim=-1))  # (B, heads, N, D/heads)
        return self.proj(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    def _heads(self, x):
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class CrossAttentionBlock(nn.Module):
    """Cross-attention and an MLP, each on normalized input and added (CrossMAE, arXiv:2401.14391, section 3.2).

    Args:
        dim (int), context_dim (int): Channels of queries and context.
        num_heads (int), mlp_ratio (float): Of the two layers.
        norm (Callable): Makes a layer norm of so many channels.
    """

    def __init__(self, dim, context_dim, num_heads, mlp_ratio, norm):
        super().__init__()
        self.norm_context = norm(context_dim)
        self.norm1, self.cross_attn = norm(dim), CrossAttention(dim, context_dim, num_heads)
        self.norm2, self.mlp = norm(dim), Mlp(dim, int(dim * mlp_ratio))

    def forward(self, x, context):
        """Queries (B, Q, D) and context (B, N, C), not yet normalized -> (B, Q, D)."""
        x = x + self.cross_attn(self.norm1(x), self.norm_context(context))
        return x + self.mlp(self.norm2(x))
