"""Tensors that others lay out in another way than the same layer of ours, as pairs of a change and its inverse.

A tensor whose shape a change is not made for is left as it is: loading then refuses it with both shapes.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from mae_toolkit.errors import UserError

Change = Callable[[Tensor, int], Tensor]


class Values(NamedTuple):
    """A change of the layout of a tensor, and its inverse.

    Attributes:
        to_ours: Function of a tensor and the channels of the images.
        to_theirs: Its inverse.
    """

    to_ours: Change
    to_theirs: Change


def unit_dims(theirs: str, ours: str) -> Values:
    """Make the change between shapes that differ by dimensions of size one.

    Args:
        theirs: Dimensions, separated by spaces: ``1``, or a letter for any size, as ``'1 1 C'`` of a mask token.
        ours: The same letters in the same order, as ``'C'``.
    """
    before, after = theirs.split(), ours.split()
    return Values(partial(_reshape, before=before, after=after), partial(_reshape, before=after, after=before))


def chain(first: Values, then: Values) -> Values:
    """Make one change of two."""
    return Values(
        lambda tensor, in_chans: then.to_ours(first.to_ours(tensor, in_chans), in_chans),
        lambda tensor, in_chans: first.to_theirs(then.to_theirs(tensor, in_chans), in_chans),
    )


def _reshape(tensor: Tensor, in_chans: int, before: Sequence[str], after: Sequence[str]) -> Tensor:
    if tensor.dim() != len(before) or any(n != 1 for n, name in zip(tensor.shape, before, strict=True) if name == '1'):
        return tensor
    sizes = iter(n for n, name in zip(tensor.shape, before, strict=True) if name != '1')
    return tensor.reshape([1 if name == '1' else next(sizes) for name in after])


def _add_class_position(tensor: Tensor, in_chans: int) -> Tensor:
    """Put a position of zero before the positions of a square (1, n*n, C), in which there is none of a class token."""
    square = tensor.dim() == 3 and math.isqrt(tensor.shape[1]) ** 2 == tensor.shape[1]
    return torch.cat([torch.zeros_like(tensor[:, :1]), tensor], 1) if square else tensor


def _keep(tensor: Tensor, in_chans: int) -> Tensor:
    return tensor


def _rows_to_ours(tensor: Tensor, in_chans: int) -> Tensor:
    """Reorder (p*p*C, ...) by row, column, channel to (C*p*p, ...) by channel, row, column."""
    if len(tensor) % in_chans:
        raise UserError(f'{in_chans} channels do not divide the {len(tensor)} values that these weights predict.')
    return tensor.unflatten(0, (-1, in_chans)).transpose(0, 1).flatten(0, 1)


def _rows_to_theirs(tensor: Tensor, in_chans: int) -> Tensor:
    return tensor.unflatten(0, (in_chans, -1)).transpose(0, 1).flatten(0, 1)


def _kernel_to_ours(tensor: Tensor, in_chans: int) -> Tensor:
    """Reorder (k*k, in, out) by column, row to (out, in, row, column)."""
    side = math.isqrt(tensor.shape[0])
    if tensor.dim() != 3 or side**2 != tensor.shape[0]:
        return tensor
    return tensor.unflatten(0, (side, side)).permute(3, 2, 1, 0)


def _kernel_to_theirs(tensor: Tensor, in_chans: int) -> Tensor:
    return tensor.permute(3, 2, 1, 0).flatten(0, 1)


def _merging_to_ours(tensor: Tensor, in_chans: int) -> Tensor:
    """Reorder (..., C*4) by channel, row, column to (..., 4*C) by column, row, channel."""
    if tensor.shape[-1] % 4:
        return tensor
    return tensor.unflatten(-1, (-1, 2, 2)).movedim(-3, -1).transpose(-3, -2).flatten(-3)


def _merging_to_theirs(tensor: Tensor, in_chans: int) -> Tensor:
    return tensor.unflatten(-1, (2, 2, -1)).transpose(-3, -2).movedim(-1, -3).flatten(-3)


# A token (1, 1, C) among tokens, or (1, C, 1, 1) on a map.
TOKEN = unit_dims('1 1 C', 'C')
MAP_TOKEN = unit_dims('1 C 1 1', 'C')
# A 1x1 convolution where ours is a linear layer, and the other way round.
CONV_AS_LINEAR = unit_dims('O I 1 1', 'O I')
LINEAR_AS_CONV = unit_dims('O I', 'O I 1 1')
# A table of positions of a square and of the class token: where ours has none of that, it is in the token itself.
CLASS_AND_SQUARE = Values(_keep, _add_class_position)
# A linear layer that is a 1x1 convolution in some of timm's architectures: loading takes either.
POINTWISE = Values(_keep, LINEAR_AS_CONV.to_theirs)
# The rows of a prediction: a patch by row, column, channel; ours is in the order of ``pixel_unshuffle``.
PREDICTION = Values(_rows_to_ours, _rows_to_theirs)
LINEAR_PREDICTION = chain(PREDICTION, LINEAR_AS_CONV)
# Layers of MinkowskiEngine, whose kernels are (positions, ...), a position being column * k + row.
KERNEL = Values(_kernel_to_ours, _kernel_to_theirs)
DEPTHWISE_KERNEL = chain(unit_dims('K C', 'K 1 C'), KERNEL)
# Patch merging in mmpretrain, mmdet and mmseg: the four neighbors of each channel, by rows. In Swin and timm: the
# channels of each neighbor, by columns.
PATCH_MERGING = Values(_merging_to_ours, _merging_to_theirs)
