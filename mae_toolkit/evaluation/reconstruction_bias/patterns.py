"""What each cell of an image shows: its edges, its texture and its color, in classes with plain names."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

SMOOTH = 0.1  # deviation within a cell below which it has no texture, in deviations of the training: 6 gray levels
DIRECTED = 0.5  # coherence of the gradients from which on a texture has a direction
WAVES = (1.5, 3.0)  # waves per cell, between coarse, medium and fine
KINDS = ('vertical', 'rising diagonal', 'horizontal', 'falling diagonal')
TEXTURES = (
    'smooth areas',
    *(f'{kind} edges' for kind in KINDS),
    'blobs and corners',
    *(f'{scale} {kind} stripes' for scale in ('medium', 'fine') for kind in KINDS),
    'medium patterns, undirected',
    'fine patterns, undirected',
)
GRAYS = ('black or dark gray', 'gray', 'light gray or white')
HUES = ('red', 'yellow', 'green', 'cyan', 'blue', 'magenta')
COLORS = (*GRAYS, *HUES)
GRAY_CHROMA = 0.12  # difference of the greatest and least channel, of 1, below which a color is a gray
PLACES = tuple(
    f'{row} {column}'.replace('middle center', 'center')
    for row in ('top', 'middle', 'bottom')
    for column in ('left', 'center', 'right')
)


@dataclass(frozen=True)
class CellPatterns:
    """What the cells of images show, each (B, L) for L cells in rows.

    Attributes:
        edges: Root mean square of the difference of neighboring pixels, in deviations of the training.
        texture: Number in ``TEXTURES``.
        color: Number in ``COLORS``; None if the images do not have three channels.
        intensity: Mean over all channels, in deviations of the training.
    """

    edges: Tensor
    texture: Tensor
    color: Tensor | None
    intensity: Tensor


def describe_cells(imgs: Tensor, unit: int, colors: Tensor | None) -> CellPatterns:
    """Describe the cells of images.

    Args:
        imgs: (B, C, H, W), normalized.
        unit: Pixels per side of a cell, which divides the sides of the images.
        colors: The same images with values from 0 to 1, if they have red, green and blue.
    """
    cells = split_cells(imgs.mean(1, keepdim=True), unit)[:, :, 0]  # (B, L, u, u)
    across, down = cells.diff(dim=-1), cells.diff(dim=-2)  # (B, L, u, u-1) and (B, L, u-1, u)
    energy = ((across**2).sum((-2, -1)) + (down**2).sum((-2, -1))) / max(1, unit * (unit - 1))  # (B, L)
    # Both in the middle of four pixels, or else waves along one diagonal would look weaker than along the other.
    across, down = (across[..., 1:, :] + across[..., :-1, :]) / 2, (down[..., 1:] + down[..., :-1]) / 2
    xx, yy, xy = (product.sum((-2, -1)) for product in (across**2, down**2, across * down))
    variance = cells.var((-2, -1), correction=0)
    color = None if colors is None else _name_colors(split_cells(colors, unit).mean((-2, -1)))
    texture = _name_textures(xx, yy, xy, energy, variance, unit)
    return CellPatterns(energy.sqrt(), texture, color, cells.mean((-2, -1)))


def split_cells(x: Tensor, unit: int) -> Tensor:
    """Cut images (B, C, h*u, w*u) into their cells (B, L, C, u, u), row by row."""
    cells = x.unflatten(-2, (-1, unit)).unflatten(-1, (-1, unit))  # (B, C, h, u, w, u)
    return cells.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)


def name_places(h: int, w: int) -> Tensor:
    """Number the cells (h * w,) of a grid by the ninth of the image in which they lie, as in ``PLACES``."""
    rows, columns = ((torch.arange(n) * 3 + 1.5) // n for n in (h, w))
    return (rows.clamp(max=2)[:, None] * 3 + columns.clamp(max=2)).long().flatten()


def _name_textures(xx: Tensor, yy: Tensor, xy: Tensor, energy: Tensor, variance: Tensor, unit: int) -> Tensor:
    """Number the textures of cells from sums of products of their gradients, the structure tensor.

    The mean squared gradient over the variance is the squared angular frequency of a wave; a single edge across a cell
    counts as less than one and a half waves.
    """
    coherence = ((xx - yy) ** 2 + 4 * xy**2).sqrt() / (xx + yy).clamp(min=1e-12)
    across_lines = 0.5 * torch.atan2(2 * xy, xx - yy)  # from -pi/2 to pi/2; 0 where lines are vertical
    direction = (across_lines / (math.pi / 4)).round().long() % 4  # as KINDS: rows are counted downwards
    waves = unit / (2 * math.pi) * (energy / variance.clamp(min=1e-12)).sqrt()
    scale = (waves >= WAVES[0]).long() + (waves >= WAVES[1]).long()
    directed = torch.where(scale == 0, 1, 6 + 4 * (scale - 1)) + direction
    undirected = torch.where(scale == 0, 5, 13 + scale)
    texture = torch.where(coherence > DIRECTED, directed, undirected)
    return texture.masked_fill(variance < SMOOTH**2, 0)


def _name_colors(rgb: Tensor) -> Tensor:
    """Number the colors (B, L, 3), from 0 to 1, by hue, or by lightness where they are gray."""
    high, low = rgb.amax(-1), rgb.amin(-1)
    chroma, lightness = high - low, (high + low) / 2
    red, green, blue = rgb.unbind(-1)
    steps = chroma.clamp(min=1e-6)
    sixth = torch.where(
        high == red,
        (green - blue) / steps,
        torch.where(high == green, 2 + (blue - red) / steps, 4 + (red - green) / steps),
    )
    gray = (lightness > 1 / 3).long() + (lightness > 2 / 3).long()
    return torch.where(chroma < GRAY_CHROMA, gray, len(GRAYS) + sixth.round().long() % len(HUES))
