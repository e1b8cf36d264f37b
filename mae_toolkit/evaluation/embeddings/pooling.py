"""From the maps and tokens of an encoder to one vector per image."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mae_toolkit.errors import UserError
from mae_toolkit.models.features import Features
from mae_toolkit.registry import suggest

EPS = 1e-6
POWER = 3.0  # of the generalized mean


def pool_mean(x: Tensor) -> Tensor:
    """Average a map (B, C, h, w) over its positions: (B, C)."""
    return x.mean((2, 3))


def pool_max(x: Tensor) -> Tensor:
    """Take the maximum of each channel of a map (B, C, h, w): (B, C)."""
    return x.amax((2, 3))


def pool_generalized_mean(x: Tensor) -> Tensor:
    """Take the generalized mean of the positive part of a map (B, C, h, w): (B, C).

    The third root of the mean of cubes: between mean and maximum (GeM: Radenovic et al., arXiv:1711.02512, equation 3).
    """
    return x.clamp(min=EPS).pow(POWER).mean((2, 3)).pow(1 / POWER)


# Poolings of maps, and of the tokens (B, P, C) in front of them: class tokens first, then registers.
OF_MAPS: dict[str, Callable[[Tensor], Tensor]] = {
    'mean': pool_mean,
    'max': pool_max,
    'gem': pool_generalized_mean,
}
OF_PREFIXES: dict[str, Callable[[Tensor], Tensor]] = {
    'class': lambda tokens: tokens[:, 0],
    'prefix': lambda tokens: tokens.mean(1),
}
POOLINGS = (*OF_MAPS, *OF_PREFIXES)


def check_poolings(poolings: Sequence[str]) -> None:
    """Refuse names that are no pooling.

    Raises:
        UserError: If there is none, or one is unknown.
    """
    if not poolings:
        raise UserError(f'No pooling is asked for: name some of {", ".join(POOLINGS)}.')
    for name in poolings:
        if name not in POOLINGS:
            raise UserError(f'There is no pooling {name!r}{suggest(name, POOLINGS)}')


def pool_features(
    features: Features, poolings: Sequence[str], levels: Sequence[int] | None = None, has_class_token: bool = True
) -> dict[str, Tensor]:
    """Make vectors of all levels by all poolings.

    Args:
        features: Maps and tokens of a batch.
        poolings: Names of :data:`POOLINGS`; ``'class'`` and ``'prefix'`` are left out where an encoder has no such
            tokens.
        levels: Levels, counted from 1 for the finest; all if None.
        has_class_token: Whether the first of the tokens is a class token; all are registers otherwise.

    Returns:
        (B, C_i) float32 by name, such as ``'level4.mean'``, from the finest level to the coarsest.
    """
    found: dict[str, Tensor] = {}
    for level, (x, prefix) in enumerate(zip(features.maps, features.prefixes, strict=True), 1):
        if levels is not None and level not in levels:
            continue
        for name in poolings:
            if name in OF_MAPS:
                found[f'level{level}.{name}'] = OF_MAPS[name](x.float())
            elif prefix is not None and prefix.shape[1] and (name != 'class' or has_class_token):
                found[f'level{level}.{name}'] = OF_PREFIXES[name](prefix.float())
    return found


def normalize_rows(x: Tensor) -> Tensor:
    """Scale each row of (N, C) to length 1, so that products of rows are cosines."""
    return torch.nn.functional.normalize(x.float(), dim=1)
