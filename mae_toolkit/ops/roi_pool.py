"""RoIPool under MMCV's calling convention.

torchvision's operator rounds the corners of a box to cells of the map (Fast R-CNN, arXiv:1504.08083, section 2.1).
MMCV's does not, and ends a box one pixel later, so that their results differ. This is MMCV's, in plain torch.
"""

from __future__ import annotations

import torch
from torch import Tensor

EMPTY = -1  # in place of an index where a bin contains no cell of the map


def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Compute the maximum of maps in each bin of a grid over each box.

    Args:
        input: Maps (B, C, H, W).
        rois: (R, 5), image index and x1, y1, x2, y2 in pixels of the image.
        output: Receives the maxima (R, C, pooled_height, pooled_width); 0 where a bin is empty.
        argmax: Receives the index of each maximum in a flat map (H * W), int32; -1 where a bin is empty.
        pooled_height: Number of rows of the grid.
        pooled_width: Number of columns of the grid.
        spatial_scale: Size of the map relative to the image.
    """
    height, width = input.shape[-2:]
    rows = _bins(rois[:, 2], rois[:, 4], spatial_scale, pooled_height, height)
    columns = _bins(rois[:, 1], rois[:, 3], spatial_scale, pooled_width, width)
    for i, image in enumerate(rois[:, 0].long().tolist()):
        values, x = _maxima(input[image], columns[i])  # (C, H, pooled_width)
        values, y = _maxima(values.transpose(1, 2), rows[i])  # (C, pooled_width, pooled_height)
        x = x.transpose(1, 2).gather(2, y.clamp(min=0))
        empty = ((x == EMPTY) | (y == EMPTY)).mT
        output[i] = values.mT.masked_fill(empty, 0)
        argmax[i] = (y * width + x).mT.masked_fill(empty, EMPTY)


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Compute the gradient of :func:`roi_pool_forward` with respect to the maps.

    Args:
        grad_output: Gradient with respect to the output (R, C, pooled_height, pooled_width).
        rois: (R, 5), image index and x1, y1, x2, y2 in pixels of the image.
        argmax: Indices that the forward pass wrote, of the shape of ``grad_output``.
        grad_input: Receives the gradient (B, C, H, W).
        pooled_height: Not used.
        pooled_width: Not used.
        spatial_scale: Not used.
    """
    batch, channels, height, width = grad_input.shape
    maps = rois[:, 0].long()[:, None] * channels + torch.arange(channels, device=rois.device)  # (R, C)
    index = maps[:, :, None, None] * (height * width) + argmax.clamp(min=0)
    gradient = grad_output.masked_fill(argmax == EMPTY, 0)
    flat = torch.zeros(batch * channels * height * width, dtype=gradient.dtype, device=gradient.device)
    grad_input.copy_(flat.index_add_(0, index.flatten(), gradient.flatten()).view_as(grad_input))


def _bins(start: Tensor, end: Tensor, scale: float, count: int, limit: int) -> list[list[list[int]]]:
    """Return the first cell and the end of each bin along one axis, for each box: R lists of ``count`` pairs.

    Args:
        start: First coordinate of each box (R,), in pixels of the image.
        end: Last coordinate of each box (R,).
        scale: Size of the map relative to the image.
        count: Number of bins.
        limit: Number of cells of the map.
    """
    start, end = start.float() * scale, (end.float() + 1) * scale
    size = ((end - start) / count)[:, None]
    edges = torch.arange(count + 1, device=start.device) * size + start[:, None]  # (R, count + 1)
    first, last = edges[:, :-1].floor().clamp(0, limit), edges[:, 1:].ceil().clamp(0, limit)
    last = torch.where(size > 0, last, first)  # a box of no size has empty bins
    return torch.stack([first, last], -1).long().tolist()


def _maxima(maps: Tensor, bins: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Return maxima (C, A, N) of maps (C, A, L) in N ranges of the last axis, and their indices; -1 in empty ranges."""
    values, indices = [], []
    for first, last in bins:
        if last > first:
            value, index = maps[:, :, first:last].max(2)
            index = index + first
        else:
            value = maps.new_zeros(maps.shape[:2])
            index = torch.full_like(value, EMPTY, dtype=torch.long)
        values.append(value)
        indices.append(index)
    return torch.stack(values, 2), torch.stack(indices, 2)
