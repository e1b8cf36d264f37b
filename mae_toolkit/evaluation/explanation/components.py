"""The main components of feature maps as colors: fitted on some images, and applied to these and to others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mae_toolkit.errors import UserError
from mae_toolkit.printing import format_count

DARK, BRIGHT = 0.01, 0.99  # quantiles of a component that are black and full color
MOST_SCORES = 1_000_000  # positions of which quantiles are computed
LEAST_FOREGROUND = 4  # positions that must be left to fit three components
SIDES = ('above', 'below', 'auto')


@dataclass(frozen=True, eq=False)
class Foreground:
    """The first component of all positions, which separates what is shown from what is left black.

    Attributes:
        mean: (C,) of all positions.
        direction: (C,), the first component.
        is_above: Whether the foreground is where the projection is above 0, or where it is below.
        share: Share of the positions that are foreground.
    """

    mean: Tensor
    direction: Tensor
    is_above: bool
    share: float

    def find(self, rows: Tensor) -> Tensor:
        """Return for positions (N, C) whether they are foreground: (N,) bool."""
        projected = (rows - self.mean) @ self.direction
        return projected > 0 if self.is_above else projected < 0


@dataclass(frozen=True, eq=False)
class FeatureComponents:
    """The three directions in which features vary most, and how they become red, green and blue.

    Fitted once, they color the maps of any image of the same encoder and level, so that the same color means similar
    features in all of them.

    Attributes:
        mean: (C,), subtracted from the features.
        directions: (C, 3), or fewer of an encoder with fewer channels, of length 1.
        low: (3,), the value of each component that is black.
        high: (3,), the value that is full color.
        explained: Share of the variance of each component.
        noise: Components that vary less than this are the same everywhere, and get a medium color.
        foreground: What is left black; None if everything is colored.
    """

    mean: Tensor
    directions: Tensor
    low: Tensor
    high: Tensor
    explained: tuple[float, ...]
    noise: float = 0.0
    foreground: Foreground | None = None

    def color(self, maps: Sequence[Tensor]) -> list[np.ndarray]:
        """Color maps (C, h, w): pictures (h, w, 3) uint8.

        Raises:
            UserError: If the maps have other channels than those that the components were fitted on, or are not finite.
        """
        wrong = [len(x) for x in maps if len(x) != len(self.mean)]
        if wrong:
            raise UserError(
                f'The maps have {format_count(wrong[0], "channel")}, and the components were fitted on '
                f'{len(self.mean)}: use them with the same encoder and level.'
            )
        return [self._color_one(x) for x in maps]

    def _color_one(self, x: Tensor) -> np.ndarray:
        rows = _to_rows(x)
        spread = self.high - self.low
        scaled = ((rows - self.mean) @ self.directions - self.low) / spread.clamp(min=1e-30)
        colors = torch.where(spread <= self.noise, 0.5, scaled).clamp(0, 1)
        colors = torch.nn.functional.pad(colors, (0, 3 - colors.shape[1]))
        if self.foreground is not None:
            colors = torch.where(self.foreground.find(rows)[:, None], colors, 0)
        return (colors * 255).round().to(torch.uint8).view(*x.shape[1:], 3).numpy()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, of which :meth:`from_dict` makes the same components."""
        plain: dict[str, Any] = {name: getattr(self, name).tolist() for name in ('mean', 'directions', 'low', 'high')}
        plain |= {'explained': list(self.explained), 'noise': self.noise, 'foreground': None}
        if (own := self.foreground) is not None:
            vectors = {'mean': own.mean.tolist(), 'direction': own.direction.tolist()}
            plain['foreground'] = vectors | {'is_above': own.is_above, 'share': own.share}
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> FeatureComponents:
        """Make components of what :meth:`to_dict` returned.

        Raises:
            KeyError: If something is missing.
        """
        vectors = {
            name: torch.tensor(plain[name], dtype=torch.float64) for name in ('mean', 'directions', 'low', 'high')
        }
        foreground, saved = None, plain['foreground']
        if saved is not None:
            mean, direction = (torch.tensor(saved[name], dtype=torch.float64) for name in ('mean', 'direction'))
            foreground = Foreground(mean, direction, saved['is_above'], saved['share'])
        return cls(**vectors, explained=tuple(plain['explained']), noise=plain['noise'], foreground=foreground)


def fit_components(maps: Sequence[Tensor], foreground: str | None = None) -> FeatureComponents:
    """Find the three directions in which the features of all positions of all maps vary most.

    Each component is stretched from its 1st to its 99th percentile, and has the sign that makes its largest weight
    positive, so that the same features have the same colors.

    With ``foreground``, the first component of all positions separates foreground and background at 0, and the colors
    are the components of the foreground alone (DINOv2, arXiv:2304.07193, figure 1). Which side is the foreground
    follows from no rule: ``'auto'`` takes the side that is rarer at the borders of the images.

    Args:
        maps: (C, h, w) of each image, of any sizes.
        foreground: ``'above'`` or ``'below'`` zero, ``'auto'``, or None to color every position.

    Raises:
        UserError: If ``foreground`` is none of these, fewer than four positions are foreground, or a map is not finite.
    """
    if foreground is not None and foreground not in SIDES:
        raise UserError(f'foreground={foreground!r} must be one of {", ".join(SIDES)}.')
    rows = torch.cat([_to_rows(x) for x in maps])  # (positions, C)
    separated = None
    if foreground is not None:
        separated = _separate(maps, rows, foreground)
        rows = rows[separated.find(rows)]
    mean, directions, explained = _find_directions(rows, 3)
    centered = rows - mean
    scores = centered @ directions  # (positions, 3)
    low, high = (torch.quantile(scores[:: max(1, len(scores) // MOST_SCORES)], q, dim=0) for q in (DARK, BRIGHT))
    noise = 1e-9 * max(float(centered.abs().amax()), 1e-30)  # the same everywhere: rounding is no color
    return FeatureComponents(mean, directions, low, high, explained, noise, separated)


def _to_rows(x: Tensor) -> Tensor:
    """Return the positions (h * w, C) of a map (C, h, w) in double precision."""
    if not x.isfinite().all():
        raise UserError('The features are not finite: the weights are broken, or the image is far from the training.')
    return x.flatten(1).T.double().cpu()


def _find_directions(rows: Tensor, count: int) -> tuple[Tensor, Tensor, tuple[float, ...]]:
    """Return the mean (C,) of rows (N, C), their main components (C, K), and the share of the variance of each."""
    mean = rows.mean(0)
    centered = rows - mean
    values, vectors = torch.linalg.eigh(centered.T @ centered)  # in ascending order
    main = vectors[:, -count:].flip(1)
    main = main * main.gather(0, main.abs().argmax(0, keepdim=True)).sign()
    shares = values.clamp(min=0).flip(0)[:count] / values.clamp(min=0).sum().clamp(min=1e-30)
    return mean, main, tuple(shares.tolist())


def _separate(maps: Sequence[Tensor], rows: Tensor, side: str) -> Foreground:
    """Separate foreground and background by the first component of all positions."""
    mean, directions, _ = _find_directions(rows, 1)
    is_above = (rows - mean) @ directions[:, 0] > 0
    chosen = side == 'above'
    if side == 'auto':
        at_border = torch.cat([_find_border(*x.shape[1:]) for x in maps])
        chosen = bool(is_above[at_border].double().mean() <= is_above.double().mean())
    count = int((is_above == chosen).sum())
    if count < LEAST_FOREGROUND:
        raise UserError(
            f'{format_count(count, "position")} of {len(rows)} are foreground: give more images, a finer level, the '
            'other side, or leave foreground out.'
        )
    return Foreground(mean, directions[:, 0], chosen, count / len(rows))


def _find_border(h: int, w: int) -> Tensor:
    """Return (h * w,) bool, True for the cells at the border of a map."""
    border = torch.ones(h, w, dtype=torch.bool)
    border[1:-1, 1:-1] = False
    return border.flatten()
