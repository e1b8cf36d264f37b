"""Fixed two-dimensional sine-cosine positions."""

import torch

from mae_toolkit.errors import UserError


def sincos_positions(dim, size, reference=None, device=None):
    """Position table (L, C) in raster order, float32, computed in float64.

    The first half of the channels encodes the column, the second half the row; each half is [sin | cos] of the index
    times ``10000 ** (-k / (dim / 4))`` (MAE, arXiv:2111.06377, appendix A.1; MoCo v3, arXiv:2104.02057, section 5).

    Args:
        dim (int): Channels C, a multiple of 4.
        size (tuple[int, int]): Rows and columns of the map.
        reference (tuple[int, int] | None): Rows and columns on which the indices are counted. A map of another size
            gets coordinates stretched to it, as if the table were resized without rounding.
        device (torch.device | None): Of the table.
    """
    if dim % 4:
        raise UserError(f'Sine-cosine positions need a multiple of 4 channels, not {dim}.')
    rows, cols = (_coordinates(n, r, device) for n, r in zip(size, reference or size, strict=True))
    omega = 10000.0 ** (-torch.arange(dim // 4, dtype=torch.float64, device=device) / (dim / 4))
    y, x = torch.meshgrid(rows, cols, indexing='ij')
    waves = [axis.reshape(-1, 1) * omega for axis in (x, y)]  # each (L, C/4)
    return torch.cat([f(wave) for wave in waves for f in (torch.sin, torch.cos)], dim=1).float()


def _coordinates(n, reference, device):
    return (torch.arange(n, dtype=torch.float64, device=device) + 0.5) * (reference / n) - 0.5
