"""RoIPool under MMCV's calling convention.

torchvision's operator rounds the corners of a box to cells of the map (Fast R-CNN, arXiv:1504.08083, section 2.1).
MMCV's does not, and ends a box one pixel later, so that their results differ. This is MMCV's, in plain torch.
"""

import torch

EMPTY = -1  # in place of an index where a bin holds no cell of the map


def roi_pool_forward(input, rois, output, argmax, pooled_height, pooled_width, spatial_scale):
    """Maximum of maps in each of the bins of a grid over each box.

    Args:
        input (Tensor): (B, C, H, W).
        rois (Tensor): (R, 5), index of the image and x1, y1, x2, y2 in pixels of the image.
        output (Tensor): (R, C, pooled_height, pooled_width), is written; zero where a bin is empty.
        argmax (Tensor): The same shape, int32, is written: where the maximum lies in a map (H*W), -1 if nowhere.
        pooled_height (int), pooled_width (int): Bins of the grid.
        spatial_scale (float): Size of the map relative to the image.
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


def roi_pool_backward(grad_output, rois, argmax, grad_input, pooled_height, pooled_width, spatial_scale):
    """Gradient of :func:`roi_pool_forward` with respect to the maps, written into ``grad_input`` (B, C, H, W)."""
    batch, channels, height, width = grad_input.shape
    maps = rois[:, 0].long()[:, None] * channels + torch.arange(channels, device=rois.device)  # (R, C)
    index = maps[:, :, None, None] * (height * width) + argmax.clamp(min=0)
    gradient = grad_output.masked_fill(argmax == EMPTY, 0)
    flat = torch.zeros(batch * channels * height * width, dtype=gradient.dtype, device=gradient.device)
    grad_input.copy_(flat.index_add_(0, index.flatten(), gradient.flatten()).view_as(grad_input))


def _bins(start, end, scale, count, limit):
    """First cell and end of each bin of each box: R lists of ``count`` pairs."""
    start, end = start.float() * scale, (end.float() + 1) * scale
    size = ((end - start) / count)[:, None]
    edges = torch.arange(count + 1, device=start.device) * size + start[:, None]  # (R, count + 1)
    first, last = edges[:, :-1].floor().clamp(0, limit), edges[:, 1:].ceil().clamp(0, limit)
    last = torch.where(size > 0, last, first)  # a box of no size has empty bins
    return torch.stack([first, last], -1).long().tolist()


def _maxima(maps, bins):
    """Maxima (C, A, N) of maps (C, A, L) in N ranges of their last axis, and where they lie; -1 in an empty range."""
    values, places = [], []
    for first, last in bins:
        if last > first:
            value, place = maps[:, :, first:last].max(2)
            place = place + first
        else:
            value = maps.new_zeros(maps.shape[:2])
            place = torch.full_like(value, EMPTY, dtype=torch.long)
        values.append(value)
        places.append(place)
    return torch.stack(values, 2), torch.stack(places, 2)
