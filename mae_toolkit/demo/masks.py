"""Masks that a visitor chooses: drawn by a strategy, or painted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.explanation.mask_sweep import build_masking
from mae_toolkit.models import MaskedAutoencoder
from mae_toolkit.models.maskings import Masking
from mae_toolkit.randomness import seeded_torch
from mae_toolkit.registry import MODELS, list_names, refuse_missing
from mae_toolkit.visualization.reconstruction import pad_to_unit

AS_TRAINED = 'as in the training'
FACTORS = (1, 2, 4)  # of the model's unit


def list_strategies(model: MaskedAutoencoder) -> dict[str, str]:
    """List the maskings that need no settings of their own: the text to show, and the name of the class.

    The first is that of the model with its settings, whose name is ``AS_TRAINED``.
    """
    own = type(model.masking).__name__
    found = {f'{_describe(own)} ({AS_TRAINED})': AS_TRAINED}
    for name in list_names(Masking):
        cls = MODELS.get(name)
        try:
            refuse_missing(cls, model.wiring.arguments_for(cls))
        except UserError:  # such as AttentionMasking, which needs a network
            continue
        found.setdefault(_describe(name), name)
    return found


def list_units(model: MaskedAutoencoder) -> list[int]:
    """List the sides of cells, in pixels, in which masks are drawn: multiples of that of the model."""
    return [factor * model.masking.unit for factor in FACTORS]


def draw_mask(
    model: MaskedAutoencoder, imgs: Tensor, strategy: str, ratio: float, unit: int | None = None, seed: int = 0
) -> Tensor:
    """Draw a mask by a strategy; the same arguments give the same mask, whatever was drawn before.

    Maskings draw from the random numbers of the whole process, which are as before after it: no other thread may draw
    meanwhile.

    Args:
        model: The model.
        imgs: (1, C, H, W), normalized, of any size.
        strategy: Name of a masking, or ``AS_TRAINED``.
        ratio: Share of the cells that is hidden, between 0 and 1.
        unit: Pixels per side of the cells that are drawn, a multiple of the unit of the model; that if None.
        seed: Seed of the mask.

    Returns:
        (1, 1, h, w) in cells of the model, of the image padded to whole cells.

    Raises:
        UserError: If a value is out of its range, or nothing or everything would be hidden.
    """
    own = model.masking.unit
    unit = unit or own
    masking = build_masking(model, None if strategy == AS_TRAINED else strategy, unit, ratio)
    with torch.no_grad(), seeded_torch(seed):
        mask = masking(pad_to_unit(imgs, own))
    if mask.all() or not mask.any():
        which = 'all' if mask.all() else 'none'
        raise UserError(f'Cells of {unit} pixels hide {which} of the {mask.numel()} cells: choose smaller ones.')
    return mask


def snap_to_cells(painted: np.ndarray, size: Sequence[int], unit: int) -> Tensor:
    """Hide the cells that painted pixels touch.

    Args:
        painted: (I, J) bool, painted on a picture of the whole image in any size.
        size: Height and width of the image that the model sees.
        unit: Pixels per side of a cell of the model.

    Returns:
        (1, 1, h, w) bool, True where hidden.

    Raises:
        UserError: If nothing is painted, or everything.
    """
    height, width = _count_cells(size, unit)
    down = _find_touching(height, painted.shape[0], unit * painted.shape[0] / size[0])  # (h, I)
    across = _find_touching(width, painted.shape[1], unit * painted.shape[1] / size[1])  # (w, J)
    mask = torch.from_numpy(down @ painted.astype(np.float32) @ across.T > 0)[None, None]
    if not mask.any():
        raise UserError('Nothing is hidden yet: paint over the parts of the image that the model should not see.')
    if mask.all():
        raise UserError(f'All {mask.numel()} cells are painted: leave at least one of them visible.')
    return mask


def _find_touching(cells: int, pixels: int, side: float) -> np.ndarray:
    """Find which pixels touch which cells along one side of an image: (cells, pixels) float32, 1 where they do.

    The middle of a pixel lies in the cell or, where pixels are larger than cells, the middle of a cell in the pixel.

    Args:
        cells: Number of cells.
        pixels: Number of painted pixels.
        side: Painted pixels per cell.
    """
    found = np.zeros((cells, pixels), np.float32)
    places = np.arange(pixels)
    found[np.minimum(((places + 0.5) / side).astype(int), cells - 1), places] = 1
    places = np.arange(cells)
    found[places, np.minimum(((places + 0.5) * side).astype(int), pixels - 1)] = 1
    return found


def _count_cells(size: Sequence[int], unit: int) -> tuple[int, int]:
    """Count the rows and columns of cells of an image, padded to whole cells."""
    return -(-size[0] // unit), -(-size[1] // unit)


def _describe(name: str) -> str:
    """Make words of the name of a class: ``'InverseBlockMasking'`` becomes ``'inverse block'``."""
    words = ''.join(f' {letter.lower()}' if letter.isupper() else letter for letter in name.removesuffix('Masking'))
    return words.strip() or name
