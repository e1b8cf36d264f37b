"""A bias computed from where query and key lie in the image."""

from typing import NamedTuple

import torch
from torch import Tensor

from mae_toolkit.models.layers.windows import partition
from mae_toolkit.timm_models import TimmModule


class Distances(NamedTuple):
    """The differences of places that occur between the tokens of windows.

    Attributes:
        index: ([B, n,] W, W), into a table over differences of rows and columns.
        reach: Steps of the largest difference in the table.
        step: Tokens.
    """

    index: Tensor
    reach: int
    step: float


def find_distances(
    window: tuple[int, int],
    device: torch.device,
    places: Tensor | None = None,
    shift: tuple[int, int] = (0, 0),
    cell: float = 1.0,
) -> Distances:
    """Find the :class:`Distances` within windows of a whole map, or of tokens from elsewhere.

    The bias is then computed once per difference, not once per pair.

    Args:
        window: Rows and columns of a window, in tokens.
        device: Device of the index.
        places: (B, h, w, 2), row and column in the image of the tokens of compact maps; None for a whole map.
        shift: Rows and columns by which windows are shifted.
        cell: Tokens per side of a cell; a half where a token holds 2 x 2 cells.
    """
    if places is None:
        axes = [torch.arange(n, device=device) for n in window]
        steps = torch.stack(torch.meshgrid(*axes, indexing='ij'), -1).flatten(0, 1)  # (W, 2)
        reach, step = max(window) - 1, 1.0
    else:
        step = min(1.0, cell)
        steps = partition((places / step).round().long(), window, shift).unflatten(0, (len(places), -1))  # (B, n, W, 2)
        # d rows of the compact map are at most 2 d rows of the image, and those of two cells more.
        reach = round((2 * (max(window) - 1) + 2 * cell) / step)
    difference = steps.unsqueeze(-3) - steps.unsqueeze(-2)  # (..., query, key, 2): the key's less the query's
    difference = difference.clamp(-reach, reach) + reach
    return Distances(difference[..., 0] * (2 * reach + 1) + difference[..., 1], reach, step)


def mlp_bias(attn: TimmModule, q: Tensor, pairs: Tensor | None, distances: Distances) -> Tensor:
    """Compute the bias (..., heads, W, W) of an attention with a network ``posmlp``.

    The network takes sign(d) log(1 + abs(d)) of the differences d of rows and columns.
    """
    dtype = attn.posmlp[0].weight.dtype
    axis = torch.arange(-distances.reach, distances.reach + 1, device=q.device, dtype=dtype) * distances.step
    axis = axis.sign() * axis.abs().log1p()
    grid = torch.stack(torch.meshgrid(axis, axis, indexing='ij'))
    table = attn.posmlp(grid[None])[0].flatten(1)  # (heads, N)
    index = distances.index
    bias = table.index_select(1, index.flatten()).unflatten(1, index.shape)  # (heads, ..., W, W)
    return bias.movedim(0, -3)
