"""Where the tokens of an attention lie in the image: for those who look at what it attends to."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from mae_toolkit.models.layers.windows import partition


class AttentionPlaces(NamedTuple):
    """The places of queries and keys of one attention over whole images.

    Attention runs within groups of tokens: the windows of an image, or all its tokens as one group.

    Attributes:
        queries: (G, S, 2), the row and column of the middle of each query, in pixels; NaN where it has no place, as
            class and register tokens and the padding of windows.
        keys: (G, T, 2), the same of the keys.
        stride: Pixels from a key to the next.
        heads_before_groups: Whether queries are (B, heads, G, S, d); else they are (B, G, heads, S, d), where B and G
            may be one axis and a single group none.
    """

    queries: Tensor
    keys: Tensor
    stride: int
    heads_before_groups: bool = False

    def queries_within(self, size: Sequence[int]) -> Tensor:
        """Return (G, S) bool, whether a query covers part of an image of a size in pixels."""
        pooled = math.isqrt(self.keys.shape[1] // self.queries.shape[1])
        return _is_within(self.queries, self.stride * pooled, size)

    def keys_within(self, size: Sequence[int]) -> Tensor:
        """Return (G, T) bool, whether a key covers part of an image of a size in pixels."""
        return _is_within(self.keys, self.stride, size)


def place_tokens(size: Sequence[int], stride: int) -> Tensor:
    """Return row and column of the middles of the tokens of a map, in pixels: (1, h, w, 2)."""
    rows, columns = ((torch.arange(n) + 0.5) * stride for n in size)
    return torch.stack(torch.meshgrid(rows, columns, indexing='ij'), -1)[None]


def place_global(size: Sequence[int], stride: int, prefix: int) -> AttentionPlaces:
    """Place the tokens of attention over a whole map (h, w) behind so many prefix tokens."""
    places = pad(place_tokens(size, stride).flatten(1, 2), (0, 0, prefix, 0), value=torch.nan)  # (1, P+L, 2)
    return AttentionPlaces(places, places, stride)


def place_windows(
    size: Sequence[int], stride: int, window: tuple[int, int], shift: tuple[int, int] = (0, 0)
) -> AttentionPlaces:
    """Place the tokens of attention within the windows of a whole map (h, w), see :func:`partition`."""
    places = partition(place_tokens(size, stride), window, shift)  # (n, W, 2)
    places = torch.where(places == 0, torch.nan, places)  # the padding; the first token lies above 0
    return AttentionPlaces(places, places, stride)


def _is_within(middles: Tensor, stride: int, size: Sequence[int]) -> Tensor:
    """Return whether squares around middles (..., 2) begin within an image; NaN is in none."""
    return (middles - stride / 2 < torch.tensor(size, device=middles.device)).all(-1)
