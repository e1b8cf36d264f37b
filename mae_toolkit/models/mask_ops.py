"""Geometry of masks and maps: upsampling, hiding, folding, and the checks of a mask that comes from outside.

A mask is a bool tensor (B, 1, h, w), one cell per ``unit`` pixels; True is hidden. Every image of a batch hides the
same number of cells; see :class:`~mae_toolkit.models.cells.Cells` for how the visible ones are gathered.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pixel_unshuffle

from mae_toolkit.errors import UserError


def check_batch(imgs: Any) -> None:
    """Refuse what is no batch of images (B, C, H, W), such as videos (B, T, C, H, W) or a single image (C, H, W).

    Raises:
        UserError: With the shape, and how to make a batch of it.
    """
    if not isinstance(imgs, Tensor):
        raise UserError(f'imgs must be one tensor (B, C, H, W), not a {type(imgs).__name__}: stack images of one size.')
    if imgs.dim() == 4:
        return
    remedy = {3: 'give a batch of one image, imgs[None]', 5: 'make images of the frames, imgs.flatten(0, 1)'}
    raise UserError(
        f'imgs have the shape {tuple(imgs.shape)}, of {imgs.dim()} dimensions, not 4, (B, C, H, W): '
        f'{remedy.get(imgs.dim(), "give images in a batch")}.'
    )


def find_grid(imgs: Tensor, unit: int) -> tuple[int, int]:
    """Return how many rows and columns of cells of ``unit`` pixels images (B, C, H, W) have.

    Raises:
        UserError: If they are no batch of images, or the unit does not divide the image size.
    """
    check_batch(imgs)
    height, width = imgs.shape[-2:]
    if height % unit or width % unit:
        best = tuple(max(unit, round(size / unit) * unit) for size in (height, width))
        raise UserError(
            f'An image of {height} x {width} pixels is not divisible by the unit of {unit} pixels; '
            f'resize or crop to {best[0]} x {best[1]}.'
        )
    return height // unit, width // unit


def upsample(mask: Tensor, size: Sequence[int]) -> Tensor:
    """Repeat the cells of a mask (B, 1, h, w) to (B, 1, *size), whole multiples of (h, w).

    Raises:
        UserError: If the size is not a whole multiple.
    """
    rows, cols = size[0] // mask.shape[-2], size[1] // mask.shape[-1]
    if (rows * mask.shape[-2], cols * mask.shape[-1]) != tuple(size):
        raise UserError(f'A mask of {mask.shape[-2]} x {mask.shape[-1]} cells does not divide a map of {tuple(size)}.')
    return mask.repeat_interleave(rows, -2).repeat_interleave(cols, -1)


def hide(x: Tensor, mask: Tensor | None) -> Tensor:
    """Set maps or images (B, C, H, W) to zero where the mask is True; ``mask=None`` hides nothing."""
    return x if mask is None else x.masked_fill(upsample(mask, x.shape[-2:]), 0)


def count_visible(mask: Tensor) -> int:
    """Count the visible cells per image. This waits for the device: it is for masks that come from outside.

    Raises:
        UserError: If two images hide different numbers of cells, or all are hidden.
    """
    counts = (~mask).flatten(1).sum(1).tolist()
    for i, count in enumerate(counts):
        if count != counts[0]:
            raise UserError(
                f'The mask leaves {counts[0]} cells of image 0 visible, but {count} of image {i}; '
                'every image of a batch must hide the same number.'
            )
    if counts[0] == 0:
        raise UserError(f'The mask hides all {mask[0].numel()} cells; leave at least one visible.')
    return counts[0]


def to_tokens(x: Tensor) -> Tensor:
    """Flatten a map (B, C, h, w) to tokens (B, h*w, C) in raster order."""
    return x.flatten(2).mT


def to_map(x: Tensor, size: Sequence[int]) -> Tensor:
    """Arrange tokens (B, h*w, C) in raster order as a map (B, C, h, w) of the given size."""
    return x.mT.unflatten(2, size)


def fold(x: Tensor, factor: int) -> Tensor:
    """Fold squares of positions into channels, as ``pixel_unshuffle``: (B, C, h*f, w*f) -> (B, C*f*f, h, w)."""
    return x if factor == 1 else pixel_unshuffle(x, factor)


def check_some_cells(mask: Tensor) -> Tensor:
    """Return a mask from outside in which some cell is True. This waits for the device.

    Raises:
        UserError: If none is: there would be nothing to predict.
    """
    if not mask.any():
        raise UserError(f'The mask is False in all {mask[0].numel()} cells: mark those to be predicted by True.')
    return mask


def check_cells(mask: Tensor, imgs: Tensor, unit: int) -> None:
    """Refuse a mask that does not belong to images, or whose cells an encoder cannot leave out.

    Args:
        mask: (B, 1, h, w) bool; its cells are square and have a multiple of ``unit`` pixels a side.
        imgs: (B, C, H, W).
        unit: Pixels; the encoder's ``mask_unit``.

    Raises:
        UserError: If it is not such a mask.
    """
    if not isinstance(mask, torch.Tensor) or mask.dtype is not torch.bool:
        raise UserError(f'A mask must be a bool tensor (True = hidden), not {getattr(mask, "dtype", repr(mask))}.')
    (b, _, height, width), shape = imgs.shape, tuple(mask.shape)
    if len(shape) != 4 or shape[:2] != (b, 1) or not all(shape):
        raise UserError(f'The mask has the shape {shape}; for {b} images it must be ({b}, 1, h, w).')
    side = height // shape[2]
    if (side * shape[2], side * shape[3]) != (height, width) or side % unit:
        raise UserError(
            f'A mask of {shape[2]} x {shape[3]} cells does not fit images of {height} x {width} pixels: its cells '
            f'must be squares of {unit} pixels or a multiple of it.'
        )


def check_mask(mask: Tensor, imgs: Tensor, unit: int) -> Tensor:
    """Check a mask that comes from outside against images (B, C, H, W) and return it.

    Raises:
        UserError: If it is no bool tensor (B, 1, H/unit, W/unit).
    """
    expected = (imgs.shape[0], 1, *find_grid(imgs, unit))
    if not isinstance(mask, torch.Tensor) or mask.dtype is not torch.bool:
        raise UserError(f'A mask must be a bool tensor (True = hidden), not {getattr(mask, "dtype", repr(mask))}.')
    if tuple(mask.shape) != expected:
        raise UserError(f'The mask has the shape {tuple(mask.shape)}; these images and unit {unit} need {expected}.')
    return mask
