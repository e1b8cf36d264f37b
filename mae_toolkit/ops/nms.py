"""Non-maximum suppression under MMCV's calling convention."""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor

from mae_toolkit.ops.precision import promote_dtypes

NAIVE, LINEAR, GAUSSIAN = 0, 1, 2


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Keep the boxes that no box of a higher score overlaps by more than a threshold.

    Args:
        boxes: (N, 4) as x1, y1, x2, y2.
        scores: (N,).
        iou_threshold: Greatest intersection over union with a box that is kept.
        offset: 1 if a box with equal corners is one pixel wide, else 0.

    Returns:
        Indices of the kept boxes (K,), int64, by descending score.
    """
    dtype = promote_dtypes(boxes, scores)
    ends = boxes[:, 2:] + offset  # which makes widths, areas and intersections those with the offset
    return torchvision.ops.nms(torch.cat([boxes[:, :2], ends], 1).to(dtype), scores.to(dtype), iou_threshold)


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Lower the scores of boxes that boxes of a higher score overlap (Soft-NMS, arXiv:1704.04503).

    Args:
        boxes: (N, 4) as x1, y1, x2, y2.
        scores: (N,).
        dets: (N, 5); its first K rows receive the kept boxes and their new scores, by descending score.
        iou_threshold: Overlap from which a score is lowered, for methods 0 and 1.
        sigma: Width of the Gaussian of method 2.
        min_score: Boxes whose score falls below are dropped.
        method: Factor of a score: 0 for 0, 1 for 1 - overlap, 2 for exp(-overlap**2 / sigma).
        offset: 1 if a box with equal corners is one pixel wide, else 0.

    Returns:
        Indices of the K kept boxes, int64.
    """
    rows, ends = boxes.clone(), boxes[:, 2:] + offset
    areas = (ends - boxes[:, :2]).prod(1)
    scores, left = scores.clone(), torch.arange(len(boxes), device=boxes.device)
    kept: list[Tensor] = []
    while len(left):
        best = scores[left].argmax()
        top = left[best]
        dets[len(kept)] = torch.cat([rows[top], scores[top, None]])
        kept.append(top)
        left = torch.cat([left[:best], left[best + 1 :]])
        size = torch.minimum(ends[top], ends[left]) - torch.maximum(rows[top, :2], rows[left, :2])  # (L, 2)
        intersection = size.clamp(min=0).prod(1)
        union = areas[top] + areas[left] - intersection
        overlap = torch.nan_to_num(intersection / union)  # boxes without area overlap nothing
        scores[left] *= _weight(overlap, iou_threshold, sigma, method)
        left = left[scores[left] >= min_score]
    return torch.stack(kept) if kept else left


def _weight(overlap: Tensor, iou_threshold: float, sigma: float, method: int) -> Tensor:
    """Return the factors of scores by the overlap (L,) with a better box."""
    if method == GAUSSIAN:
        return torch.exp(-(overlap**2) / sigma)
    lowered = 1 - overlap if method == LINEAR else torch.zeros_like(overlap)
    return torch.where(overlap >= iou_threshold, lowered, 1.0)
