"""RoIAlign under MMCV's calling convention, which writes results into tensors of the caller."""

from __future__ import annotations

import torch
import torchvision  # noqa: F401  # registers the operators
from torch import Tensor

from mae_toolkit.errors import UserError
from mae_toolkit.ops.precision import promote_dtypes

AVERAGE = 1


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Average bilinear samples of maps in the cells of a grid over each box (Mask R-CNN, arXiv:1703.06870, section 3).

    Args:
        input: Maps (B, C, H, W).
        rois: (R, 5), image index and x1, y1, x2, y2 in pixels of the image.
        output: Receives the averages (R, C, aligned_height, aligned_width).
        argmax_y: Not used.
        argmax_x: Not used.
        aligned_height: Number of rows of the grid.
        aligned_width: Number of columns of the grid.
        spatial_scale: Size of the map relative to the image.
        sampling_ratio: Samples per side of a cell; 0 takes as many as it has pixels.
        pool_mode: 1 for the average; 0, the maximum, is not available.
        aligned: Put the center of the first pixel at (0.5, 0.5), instead of (0, 0).

    Raises:
        UserError: If ``pool_mode`` is that of the maximum.
    """
    if pool_mode != AVERAGE:
        raise UserError("RoIAlign with pool_mode='max' needs compiled MMCV; torchvision has only pool_mode='avg'.")
    dtype = promote_dtypes(input, rois)
    size = (aligned_height, aligned_width)
    with torch.autocast(input.device.type, enabled=False):
        pooled = torch.ops.torchvision.roi_align(
            input.to(dtype), rois.to(dtype), spatial_scale, *size, sampling_ratio, aligned
        )
    output.copy_(pooled)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Compute the gradient of :func:`roi_align_forward` with respect to the maps.

    Args:
        grad_output: Gradient with respect to the output (R, C, aligned_height, aligned_width).
        rois: (R, 5), image index and x1, y1, x2, y2 in pixels of the image.
        argmax_y: Not used.
        argmax_x: Not used.
        grad_input: Receives the gradient (B, C, H, W).
        aligned_height: Number of rows of the grid.
        aligned_width: Number of columns of the grid.
        spatial_scale: Size of the map relative to the image.
        sampling_ratio: Samples per side of a cell.
        pool_mode: Not used.
        aligned: See :func:`roi_align_forward`.
    """
    dtype = promote_dtypes(grad_output, rois)
    size, shape = (aligned_height, aligned_width), grad_input.shape
    gradient = torch.ops.torchvision._roi_align_backward(
        grad_output.to(dtype), rois.to(dtype), spatial_scale, *size, *shape, sampling_ratio, aligned
    )
    grad_input.copy_(gradient)
