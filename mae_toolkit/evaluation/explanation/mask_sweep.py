"""Masks of other ratios, units and shapes than a model was trained with."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mae_toolkit.errors import UserError
from mae_toolkit.models import MaskedAutoencoder
from mae_toolkit.models.mask_ops import find_grid
from mae_toolkit.models.maskings import Masking
from mae_toolkit.registry import build

MaskingConfig = str | Mapping[str, Any]


class CoarserMasking(Masking):
    """Masking that draws larger cells, and returns them as the cells of a model.

    At the lower and right border of an image, a large cell may be cut, so that the share that is hidden is about
    the ratio.

    Args:
        inner: Draws masks of large cells.
        unit: Pixels per side of the cells of the model, which divides the unit of ``inner``.
    """

    def __init__(self, inner: Masking, unit: int) -> None:
        super().__init__(inner.ratio, unit, inner.count, inner.shared)
        self.inner = inner

    def forward(self, imgs: Tensor) -> Tensor:
        """Draw a mask (B, 1, h, w) of the model's cells for images (B, C, H, W)."""
        h, w = find_grid(imgs, self.unit)
        pad = [-n % self.inner.unit for n in imgs.shape[-2:]]
        large = self.inner(torch.nn.functional.pad(imgs, (0, pad[1], 0, pad[0]), mode='replicate'))
        factor = self.inner.unit // self.unit
        return large.repeat_interleave(factor, 2).repeat_interleave(factor, 3)[..., :h, :w]


def build_masking(model: MaskedAutoencoder, masking: MaskingConfig | None, unit: int, ratio: float) -> Masking:
    """Build a masking whose masks a model takes.

    Args:
        model: The model.
        masking: Name of its class, or its config; the model's own if None.
        unit: Pixels per side of a cell, a multiple of the model's.
        ratio: Share of the cells that is hidden.

    Raises:
        UserError: If the model cannot take such cells, there is no such masking, or an argument is out of its range.
    """
    own = model.masking.unit
    if unit < own or unit % own:
        raise UserError(f'Cells of {unit} pixels: the model was trained with {own}, and takes multiples of that.')
    if not 0 < ratio < 1:
        raise UserError(f'ratio={ratio} must be between 0 and 1: it is the share of the cells that is hidden.')
    if masking is None:
        chosen = copy.copy(model.masking)  # with other settings, and the same network where it has one
        chosen.ratio, chosen.unit, chosen.predict_ratio = ratio, unit, None
    else:
        config = {'type': masking} if isinstance(masking, str) else dict(masking)
        chosen = build(Masking, {**config, 'ratio': ratio, 'unit': unit}, model.wiring)
    chosen = chosen if unit == own else CoarserMasking(chosen, own)
    return chosen.to(next(model.parameters()).device).eval()


def name_masking(model: MaskedAutoencoder, masking: MaskingConfig | None) -> str:
    """Name a masking by its class and its arguments: ``'ColorNoiseMasking color=blue'``."""
    if masking is None:
        return type(model.masking).__name__
    if isinstance(masking, str):
        return masking
    return ' '.join([str(masking.get('type')), *(f'{key}={value}' for key, value in masking.items() if key != 'type')])


def is_nested(hidden: Sequence[np.ndarray]) -> bool:
    """Return whether each of several masks, bool and True where hidden, hides all that the one before hides."""
    return all((later | ~earlier).all() for earlier, later in pairwise(hidden))
