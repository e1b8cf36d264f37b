"""RoIAlign under MMCV's calling convention: results are written into tensors of the caller."""

import torch
import torchvision  # noqa: F401  # it registers the operators

from mae_toolkit.errors import UserError
from mae_toolkit.ops.precision import common_type

AVERAGE = 1


def roi_align_forward(
    input,
    rois,
    output,
    argmax_y,
    argmax_x,
    aligned_height,
    aligned_width,
    spatial_scale,
    sampling_ratio,
    pool_mode,
    aligned,
):
    """Average bilinear samples of maps in the cells of a grid over each box (Mask R-CNN, arXiv:1703.06870, section 3).

    Args:
        input (Tensor): (B, C, H, W).
        rois (Tensor): (R, 5), index of the image and x1, y1, x2, y2 in pixels of the image.
        output (Tensor): (R, C, aligned_height, aligned_width), is written.
        argmax_y (Tensor), argmax_x (Tensor): Not used.
        aligned_height (int), aligned_width (int): Cells of the grid.
        spatial_scale (float): Size of the map relative to the image.
        sampling_ratio (int): Samples per side of a cell; as many as it has pixels if 0.
        pool_mode (int): 1, average.
        aligned (bool): Whether the center of a pixel lies at half its side, rather than at its corner.

    Raises:
        UserError: If the maximum of the samples is asked for.
    """
    if pool_mode != AVERAGE:
        raise UserError(
            "RoIAlign with pool_mode='max' needs compiled MMCV; torchvision's, which stands in, has pool_mode='avg'."
        )
    dtype = common_type(input, rois)
    size = (aligned_height, aligned_width)
    with torch.autocast(input.device.type, enabled=False):
        pooled = torch.ops.torchvision.roi_align(
            input.to(dtype), rois.to(dtype), spatial_scale, *size, sampling_ratio, aligned
        )
    output.copy_(pooled)


def roi_align_backward(
    grad_output,
    rois,
    argmax_y,
    argmax_x,
    grad_input,
    aligned_height,
    aligned_width,
    spatial_scale,
    sampling_ratio,
    pool_mode,
    aligned,
):
    """Gradient of :func:`roi_align_forward` with respect to the maps, written into ``grad_input`` (B, C, H, W)."""
    dtype = common_type(grad_output, rois)
    size, shape = (aligned_height, aligned_width), grad_input.shape
    gradient = torch.ops.torchvision._roi_align_backward(
        grad_output.to(dtype), rois.to(dtype), spatial_scale, *size, *shape, sampling_ratio, aligned
    )
    grad_input.copy_(gradient)
