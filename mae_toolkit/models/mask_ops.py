"""Geometry of masks: the one place that upsamples, hides, gathers and scatters.

A mask is a bool tensor (B, 1, h, w), one cell per ``unit`` pixels; True is hidden. Every image of a batch hides the
same number of cells, so that gathering is by index, without boolean indexing and without waiting for the device.
"""

import torch

from mae_toolkit.errors import UserError


def grid_of(imgs, unit):
    """Rows and columns of cells of ``unit`` pixels in images (B, C, H, W).

    Raises:
        UserError: If the unit does not divide the image size.
    """
    height, width = imgs.shape[-2:]
    if height % unit or width % unit:
        best = tuple(max(unit, round(size / unit) * unit) for size in (height, width))
        raise UserError(
            f'An image of {height} x {width} pixels is not divisible by the unit of {unit} pixels; '
            f'resize or crop to {best[0]} x {best[1]}.'
        )
    return height // unit, width // unit


def upsample(mask, size):
    """Repeat the cells of a mask (B, 1, h, w) to (B, 1, *size), whole multiples of (h, w)."""
    rows, cols = size[0] // mask.shape[-2], size[1] // mask.shape[-1]
    if (rows * mask.shape[-2], cols * mask.shape[-1]) != tuple(size):
        raise UserError(f'A mask of {mask.shape[-2]} x {mask.shape[-1]} cells does not divide a map of {tuple(size)}.')
    return mask.repeat_interleave(rows, -2).repeat_interleave(cols, -1)


def hide(x, mask):
    """Set maps or images (B, C, H, W) to zero where the mask is True; ``mask=None`` hides nothing."""
    return x if mask is None else x.masked_fill(upsample(mask, x.shape[-2:]), 0)


def count_visible(mask):
    """Number of visible cells per image. Waits for the device: for masks that come from outside.

    Raises:
        UserError: If two images hide different numbers of cells, or all are hidden.
    """
    counts = (~mask).flatten(1).sum(1).tolist()
    cells = mask[0].numel()
    for i, count in enumerate(counts):
        if count != counts[0]:
            raise UserError(
                f'The mask leaves {counts[0]} cells of image 0 visible, but {count} of image {i}; '
                'every image of a batch must hide the same number.'
            )
    if counts[0] == 0:
        raise UserError(f'The mask hides all {cells} cells; leave at least one visible.')
    return counts[0]


def visible_ids(mask, size, num_visible=None):
    """Indices (B, V) of the visible cells on a map of the given size, in raster order; None for ``mask=None``.

    Args:
        mask (Tensor | None): (B, 1, h, w), h and w dividing ``size``.
        size (tuple[int, int]): Rows and columns of the map.
        num_visible (int | None): Visible cells of the mask per image, where it is known. If None, they are counted.
    """
    if mask is None:
        return None
    num_visible = count_visible(mask) if num_visible is None else num_visible
    scale = size[0] * size[1] // mask[0].numel()
    order = upsample(mask, size).flatten(1).byte().argsort(dim=1, stable=True)  # (B, L), the visible first
    return order[:, : num_visible * scale]


def gather_tokens(x, ids):
    """Tokens (B, V, C) of x (B, L, C) at ids (B, V); ``ids=None`` takes all."""
    return x if ids is None else x.gather(1, ids.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


def scatter_tokens(x, ids, length):
    """Put tokens x (B, V, C) at ids (B, V) of zeros (B, L, C); ``ids=None`` means that x is complete."""
    if ids is None:
        return x
    return x.new_zeros(x.shape[0], length, x.shape[-1]).scatter(1, ids.unsqueeze(-1).expand_as(x), x)


def to_tokens(x):
    """(B, C, h, w) -> (B, L, C) in raster order."""
    return x.flatten(2).mT


def to_map(x, size):
    """(B, L, C) in raster order -> (B, C, *size)."""
    return x.mT.unflatten(2, size)


def some_cells(mask):
    """Return a mask from outside in which some cell is True. Waits for the device.

    Raises:
        UserError: If none is: there would be nothing to predict.
    """
    if not mask.any():
        raise UserError(f'The mask is False in all {mask[0].numel()} cells: mark those to be predicted by True.')
    return mask


def mask_like(mask, imgs, unit):
    """Check a mask that comes from outside against images (B, C, H, W) and return it.

    Raises:
        UserError: If it is no bool tensor (B, 1, H/unit, W/unit).
    """
    expected = (imgs.shape[0], 1, *grid_of(imgs, unit))
    if not isinstance(mask, torch.Tensor) or mask.dtype is not torch.bool:
        raise UserError(f'A mask is a bool tensor (True = hidden), not {getattr(mask, "dtype", repr(mask))}.')
    if tuple(mask.shape) != expected:
        raise UserError(f'The mask has the shape {tuple(mask.shape)}; these images and unit {unit} need {expected}.')
    return mask
