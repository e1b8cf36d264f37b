"""Fusion of the levels of an encoder."""

from collections.abc import Sequence

from torch import nn

from mae_toolkit.models.features import Features
from mae_toolkit.models.mask_ops import to_map, to_tokens


class LevelFusion(nn.Module):
    """Levels of an encoder as one, of the deepest stride and channels (Hiera, arXiv:2306.00989, section 3.3).

    Each level is folded to the deepest stride and mapped to the deepest channels by a convolution whose kernel is its
    stride, so that mask units do not mix; the deepest level is taken as it is. The sum is normalized. It is not zero
    where hidden, as convolutions have biases. Prefix tokens are those of the deepest level, normalized too.

    Args:
        in_channels: Channels of the encoder's levels, the deepest last.
        in_strides: Pixels per position of these levels.
        norm_eps: Epsilon of the layer norm.
    """

    def __init__(self, in_channels: Sequence[int], in_strides: Sequence[int], norm_eps: float = 1e-6) -> None:
        super().__init__()
        *finer, (width, deepest) = zip(in_channels, in_strides, strict=True)
        self.heads = nn.ModuleList(nn.Conv2d(c, width, deepest // s, deepest // s) for c, s in finer)
        self.norm = nn.LayerNorm(width, eps=norm_eps)

    def forward(self, features: Features) -> Features:
        """Fuse the features of several levels to those of one, whose map is (B, C, H/s, W/s)."""
        *finer, x = features.maps
        x = sum((head(level) for head, level in zip(self.heads, finer, strict=True)), start=x)
        prefix = features.prefixes[-1]
        normed = to_map(self.norm(to_tokens(x)), x.shape[-2:])
        return Features((normed,), (None if prefix is None else self.norm(prefix),))
