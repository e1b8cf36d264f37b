"""Relative positions of plain vision transformers: BEiT's table, and those of rows and columns in ViTDet."""

import torch
from timm.models.beit import gen_relative_position_index
from torch import Tensor, nn
from torch.nn.functional import interpolate

from mae_toolkit.checkpoints.positions import resize_axis_table


def look_up_table_bias(
    table: Tensor, window: tuple[int, int], size: tuple[int, int], ids: Tensor | None = None
) -> Tensor:
    """Look up BEiT's bias of the class token and the tokens of a map (arXiv:2106.08254, section 2.1).

    Args:
        table: ((2h-1)(2w-1)+3, heads); the last three rows belong to the class token.
        window: Rows and columns (h, w) of the map that the table is for.
        size: Rows and columns of the map; for another size than ``window`` the table is resized.
        ids: (B, N) indices of the tokens on the map; None for all.

    Returns:
        (B, heads, 1+N, 1+N), with B = 1 for all tokens.
    """
    if tuple(window) != tuple(size):
        sides, new = ([2 * n - 1 for n in grid] for grid in (window, size))
        places = table[:-3].T.unflatten(1, sides)[None]  # (1, heads, 2h-1, 2w-1)
        places = interpolate(places, size=new, mode='bicubic', align_corners=False)[0].flatten(1).T
        table = torch.cat([places, table[-3:]])
    index = gen_relative_position_index(tuple(size), device=table.device)  # (1+L, 1+L)
    if ids is not None:
        ids = torch.cat([ids.new_zeros(len(ids), 1), ids + 1], 1)  # (B, 1+N)
        index = index[ids[:, :, None], ids[:, None, :]]  # (B, 1+N, 1+N)
    bias = table[index].movedim(-1, -3)  # (..., heads, 1+N, 1+N)
    return bias if ids is not None else bias[None]


class RelativePositions(nn.Module):
    """Learned positions of a key's row and column relative to the query's (arXiv:2112.01526, equation 4).

    Zero at first, so that a pretrained model computes at first what it did without (ViTDet, arXiv:2203.16527).

    Args:
        head_dim: Channels d per head.
        size: Rows and columns of the window or map; for another size the tables are interpolated.
    """

    def __init__(self, head_dim: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = tuple(size)
        self.rows = nn.Parameter(torch.zeros(2 * size[0] - 1, head_dim))
        self.columns = nn.Parameter(torch.zeros(2 * size[1] - 1, head_dim))

    def forward(self, q: Tensor, size: tuple[int, int], pairs: Tensor | None = None) -> Tensor:
        """Compute the bias of queries on a map or window.

        Args:
            q: Queries (..., heads, S, d).
            size: Rows and columns (h, w) of the map or window.
            pairs: (n, S, S), places of query and key as one index of an (h*w, h*w) table; None for all places in
                raster order.

        Returns:
            (..., heads, S, S).
        """
        h, w = size
        area = h * w
        places = torch.arange(area, device=q.device) if pairs is None else pairs[:, :, 0] // area  # ([n,] S)
        to_rows = _scores(q, resize_axis_table(self.rows, h), places // w, h)  # (..., heads, S, h)
        to_columns = _scores(q, resize_axis_table(self.columns, w), places % w, w)  # (..., heads, S, w)
        bias = (to_rows.unsqueeze(-1) + to_columns.unsqueeze(-2)).flatten(-2)  # (..., heads, S, h*w)
        if pairs is None:
            return bias
        keys = (pairs[:, 0] % area)[:, None, None]  # (n, 1, 1, S)
        return bias.gather(-1, keys.expand(*bias.shape[:-1], -1))


def _scores(q: Tensor, table: Tensor, places: Tensor, length: int) -> Tensor:
    """Multiply queries by the positions of all rows (or columns) relative to theirs: (..., heads, S, length)."""
    index = places.unsqueeze(-1) - torch.arange(length, device=q.device) + length - 1  # ([n,] S, length)
    index = index.unsqueeze(-3) if index.dim() > 2 else index  # the same in all heads
    scores = q @ table.to(q.dtype).T  # (..., heads, S, 2*length-1)
    return scores.gather(-1, index.expand(*scores.shape[:-1], -1))
