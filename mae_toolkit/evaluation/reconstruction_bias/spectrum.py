"""Errors by the length of waves: the cosine transform of each hidden cell, in bands of an octave."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mae_toolkit.evaluation.reconstruction_bias.patterns import split_cells

FIRST = 1.5  # waves per cell up to which the lowest band above the mean goes; each further band ends at twice as many


def name_bands(unit: int) -> list[str]:
    """Name the bands of cells of so many pixels a side, from the mean over long to short waves."""
    ends = _band_ends(unit)
    names = ['mean of the cell']
    for number, end in enumerate(ends):
        longest = f'{unit / ends[number - 1]:.3g}' if number else ''
        shortest = f'{unit / end:.3g}'
        if number == len(ends) - 1:
            names.append(f'waves shorter than {longest} px' if number else 'waves within the cell')
        else:
            names.append(f'waves of {shortest} to {longest} px' if number else f'waves longer than {shortest} px')
    return names


def measure_spectrum(residuals: Tensor, mask: Tensor, floor: float) -> Tensor:
    """Sum the energy of residuals over the hidden cells, by band.

    Args:
        residuals: (N, B, C, H, W).
        mask: (B, 1, h, w) bool, True where hidden.
        floor: Mean square that is added to each cell, spread evenly over the frequencies.

    Returns:
        (N, B, K). Summed over the bands, it is the mean square of each cell (and the floor), summed over the cells.
    """
    unit = residuals.shape[-1] // mask.shape[-1]
    basis = _cosines(unit).to(residuals)  # (u, u)
    bands = _assign_bands(unit).to(residuals)  # (u * u, K)
    hidden = mask.flatten(1)  # (B, L)
    found = []
    for residual in residuals:
        cells = split_cells(residual, unit)[hidden]  # (hidden cells of all images, C, u, u)
        power = (basis @ cells @ basis.mT).square().mean(1).flatten(1) / unit**2 + floor / unit**2
        counts = hidden.sum(1).tolist()
        found.append(torch.stack([part.sum(0) for part in (power @ bands).split(counts)]))
    return torch.stack(found)


def _band_ends(unit: int) -> list[float]:
    """Return the frequencies, in waves per cell, at which the bands above the mean end."""
    ends = [FIRST]
    while ends[-1] < unit / 2:
        ends.append(2 * ends[-1])
    return ends


def _cosines(unit: int) -> Tensor:
    """Return the orthonormal basis of the cosine transform (type II), a row (u,) per frequency."""
    rows = torch.arange(unit, dtype=torch.float64)
    basis = torch.cos(math.pi / unit * (rows + 0.5) * rows[:, None]) * math.sqrt(2 / unit)
    basis[0] /= math.sqrt(2)
    return basis


def _assign_bands(unit: int) -> Tensor:
    """Return (u * u, K), 1 where a frequency lies in a band."""
    waves = torch.arange(unit, dtype=torch.float64) / 2  # per cell
    radius = (waves[:, None] ** 2 + waves**2).sqrt().flatten()
    ends = torch.tensor(_band_ends(unit), dtype=torch.float64)
    band = torch.bucketize(radius, ends[:-1]) + 1  # beyond the last end, too
    band[0] = 0
    return torch.nn.functional.one_hot(band, len(ends) + 1)
