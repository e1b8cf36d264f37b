"""Two-dimensional positions of decoders and encoders: fixed sine-cosine, or learned."""

from collections.abc import Sequence

import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from mae_toolkit.errors import UserError


def compute_sincos_positions(
    dim: int,
    size: Sequence[int],
    reference: Sequence[int] | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Compute a fixed position table (L, C) in raster order, float32, computed in float64.

    The first half of the channels encodes the column, the second half the row; each half is [sin | cos] of the index
    times ``10000 ** (-k / (dim / 4))`` (MAE, arXiv:2111.06377, appendix A.1; MoCo v3, arXiv:2104.02057, section 5).

    Args:
        dim: Channels C, a multiple of 4.
        size: Rows and columns of the map.
        reference: Rows and columns on which the indices are counted. A map of another size gets coordinates stretched
            to it, as if the table were resized without rounding.
        device: Device of the table.

    Raises:
        UserError: If the channels are not a multiple of 4.
    """
    if dim % 4:
        raise UserError(f'Sine-cosine positions need a multiple of 4 channels, not {dim}.')
    rows, cols = (_coordinates(n, r, device) for n, r in zip(size, reference or size, strict=True))
    omega = 10000.0 ** (-torch.arange(dim // 4, dtype=torch.float64, device=device) / (dim / 4))
    y, x = torch.meshgrid(rows, cols, indexing='ij')
    waves = [axis.reshape(-1, 1) * omega for axis in (x, y)]  # each (L, C/4)
    return torch.cat([f(wave) for wave in waves for f in (torch.sin, torch.cos)], dim=1).float()


def _coordinates(n: int, reference: int, device: torch.device | None) -> Tensor:
    return (torch.arange(n, dtype=torch.float64, device=device) + 0.5) * (reference / n) - 0.5


def look_up_positions(table: Tensor, ids: Tensor | None) -> Tensor:
    """Look up positions (B, N, C) in a table (L, C) by indices (B, N); ``ids=None`` takes all of them, (1, L, C)."""
    return table.unsqueeze(0) if ids is None else table.index_select(0, ids.flatten()).unflatten(0, ids.shape)


class SincosPositions(nn.Module):
    """Fixed positions of maps of any size, see :func:`compute_sincos_positions`; those of the usual size are kept.

    Args:
        dim: Channels, a multiple of 4.
        grid: Rows and columns of the usual size, on which positions are counted on every map; each map counts its own
            if None.
    """

    table: Tensor

    def __init__(self, dim: int, grid: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.dim, self.grid = dim, None if grid is None else tuple(grid)
        self.register_buffer('table', compute_sincos_positions(dim, self.grid or (1, 1)), persistent=False)  # (L, C)

    def forward(self, size: Sequence[int]) -> Tensor:
        """Return the positions (L, C) of a map with these rows and columns, in raster order."""
        if tuple(size) == self.grid:
            return self.table
        return compute_sincos_positions(self.dim, tuple(size), self.grid, self.table.device)


class LearnedPositions(nn.Module):
    """A learned table of positions, resized to maps of other sizes.

    Args:
        dim: Channels.
        grid: Rows and columns of the table.

    Attributes:
        position_grid: The same, for resizing when weights are loaded.

    Raises:
        UserError: If there is no grid.
    """

    def __init__(self, dim: int, grid: tuple[int, int] | None) -> None:
        super().__init__()
        if grid is None:
            raise UserError(
                "positions='learned' needs a size to learn them for, and this encoder stores none: give "
                "grid=(rows, columns) of the last level, or positions='sincos'."
            )
        self.position_grid = tuple(grid)
        self.pos_embed = nn.Parameter(torch.empty(1, self.position_grid[0] * self.position_grid[1], dim))  # (1, L, C)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, size: Sequence[int]) -> Tensor:
        """Return the positions (L, C) of a map with these rows and columns, in raster order."""
        return resample_abs_pos_embed(self.pos_embed, list(size), list(self.position_grid), num_prefix_tokens=0)[0]

    def no_weight_decay(self) -> set[str]:
        """Return the name of the table, which is not decayed, as those of encoders."""
        return {'pos_embed'}


KINDS = {'sincos': SincosPositions, 'learned': LearnedPositions}


def make_positions(kind: str, dim: int, grid: tuple[int, int] | None = None) -> nn.Module:
    """Make a module that gives the positions (L, dim) of a map of any size.

    Args:
        kind: ``'sincos'`` or ``'learned'``.
        dim: Channels.
        grid: Rows and columns that positions refer to, see the classes above.

    Raises:
        UserError: If there is no such kind, or it needs a grid.
    """
    if kind not in KINDS:
        raise UserError(f'positions={kind!r} must be {" or ".join(map(repr, KINDS))}.')
    return KINDS[kind](dim, grid)
