"""Non-maximum suppression under MMCV's calling convention."""

import torch
import torchvision

from mae_toolkit.ops.precision import common_type

NAIVE, LINEAR, GAUSSIAN = 0, 1, 2


def nms(boxes, scores, iou_threshold, offset):
    """Keep the boxes that no better one overlaps by more than a threshold.

    Args:
        boxes (Tensor): (N, 4), as x1, y1, x2, y2.
        scores (Tensor): (N,).
        iou_threshold (float): Greatest intersection over union with a box that was kept.
        offset (int): 1 if a box of equal corners is one pixel wide, else 0.

    Returns:
        Tensor: (K,) int64, indices of those kept, the best first.
    """
    dtype = common_type(boxes, scores)
    ends = boxes[:, 2:] + offset  # which makes widths, areas and intersections those with the offset
    return torchvision.ops.nms(torch.cat([boxes[:, :2], ends], 1).to(dtype), scores.to(dtype), iou_threshold)


def softnms(boxes, scores, dets, iou_threshold, sigma, min_score, method, offset):
    """Lower the scores of boxes that better ones overlap (Soft-NMS, arXiv:1704.04503).

    Args:
        boxes (Tensor), scores (Tensor), offset (int): As of :func:`nms`.
        dets (Tensor): (N, 5), gets the boxes and their new scores, the best first, in its first K rows.
        iou_threshold (float): Overlap from which on a score is lowered, for methods 0 and 1.
        sigma (float): Width of the Gaussian of method 2.
        min_score (float): Boxes that fall below are dropped.
        method (int): What a score is multiplied with: 0, zero; 1, one less the overlap; 2, exp(-overlap**2 / sigma).

    Returns:
        Tensor: (K,) int64, indices of the K boxes.
    """
    rows, ends = boxes.clone(), boxes[:, 2:] + offset
    areas = (ends - boxes[:, :2]).prod(1)
    scores, left, kept = scores.clone(), torch.arange(len(boxes), device=boxes.device), []
    while len(left):
        best = scores[left].argmax()
        top = left[best]
        dets[len(kept)] = torch.cat([rows[top], scores[top, None]])
        kept.append(top)
        left = torch.cat([left[:best], left[best + 1 :]])
        size = torch.minimum(ends[top], ends[left]) - torch.maximum(rows[top, :2], rows[left, :2])  # (L, 2)
        shared = size.clamp(min=0).prod(1)
        overlap = torch.nan_to_num(shared / (areas[top] + areas[left] - shared))  # boxes without area overlap nothing
        scores[left] *= _weight(overlap, iou_threshold, sigma, method)
        left = left[scores[left] >= min_score]
    return torch.stack(kept) if kept else left


def _weight(overlap, iou_threshold, sigma, method):
    if method == GAUSSIAN:
        return torch.exp(-(overlap**2) / sigma)
    lowered = 1 - overlap if method == LINEAR else torch.zeros_like(overlap)
    return torch.where(overlap >= iou_threshold, lowered, 1.0)
