"""Tensors that official code lays out in another way than the same layer of ours.

A tensor whose shape does not allow it is left as it is: loading then refuses it with both shapes.
"""

import math

from mae_toolkit.errors import UserError


def from_minkowski(name, tensor, in_chans):
    """Name and tensor of a layer of MinkowskiEngine as those of the dense layer that computes the same.

    Its kernels are (positions, ...), a position being column * k + row.
    """
    name = name.replace('.ln.', '.').replace('.linear.', '.')
    if not name.endswith('.kernel'):
        return name, tensor
    name, side = name.removesuffix('kernel') + 'weight', math.isqrt(tensor.shape[0])
    if side**2 != tensor.shape[0] or tensor.dim() not in (2, 3):
        return name, tensor
    kernel = tensor.unflatten(0, (side, side)).transpose(0, 1)  # (row, column, ...)
    return name, kernel.permute(2, 0, 1)[:, None] if tensor.dim() == 2 else kernel.permute(3, 2, 0, 1)


def fcmae(name, tensor, in_chans):
    """The same of FCMAE, whose prediction has MAE's order of rows."""
    if name.startswith('pred.'):
        return name, rows_to_channel_first(tensor, in_chans)
    return from_minkowski(name, tensor, in_chans)


def mae_prediction(name, tensor, in_chans):
    """MAE's linear prediction as our 1x1 convolution with its order of rows, and its mask token as ours."""
    last = name.rpartition('decoder_')[2]
    if last.startswith('pred.'):
        rows = rows_to_channel_first(tensor, in_chans)
        return name, rows[..., None, None] if last == 'pred.weight' and rows.dim() == 2 else rows
    return name, tensor.flatten() if name.endswith('mask_token') else tensor


def rows_to_channel_first(tensor, in_chans):
    """Reorder the first dimension (p*p*C, ...) from (row, column, channel) to (channel, row, column)."""
    if len(tensor) % in_chans:
        raise UserError(f'{in_chans} channels do not divide the {len(tensor)} values that these weights predict.')
    return tensor.unflatten(0, (-1, in_chans)).transpose(0, 1).flatten(0, 1)


def merging_of_mmpretrain(name, tensor, in_chans):
    """Patch merging with the four neighbors in Swin's order.

    mmpretrain has channel * 4 + neighbor, neighbors by rows; Swin has neighbor * C + channel, neighbors by columns.
    """
    if '.downsample.' not in name or tensor.shape[-1] % 4:
        return name, tensor
    neighbors = tensor.unflatten(-1, (-1, 4)).movedim(-1, -2)  # (..., 4, C)
    return name, neighbors[..., [0, 2, 1, 3], :].flatten(-2)
