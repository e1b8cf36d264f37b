"""How well anomaly scores and maps find defects: AUROC, AUPRO and F1 of images and of pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import label
from sklearn.metrics import auc, f1_score, precision_recall_curve, roc_auc_score

from mae_toolkit.errors import UserError

PRO_LIMITS = (0.3, 0.05)  # of MVTec AD, and of MVTec AD 2
NEIGHBORS = np.ones((3, 3), int)  # pixels that touch at a corner belong to one region


def compute_auroc(scores: np.ndarray, is_defective: np.ndarray) -> float | None:
    """Compute the area under the ROC curve; None if there are only normal or only defective ones.

    Args:
        scores: Any shape, higher for a defect.
        is_defective: Bool of the same shape.
    """
    truth = np.asarray(is_defective).reshape(-1)
    if truth.all() or not truth.any():
        return None
    return float(roc_auc_score(truth, np.asarray(scores).reshape(-1)))


def compute_f1_max(scores: np.ndarray, is_defective: np.ndarray) -> float | None:
    """Compute the highest F1 of all thresholds, which nobody knows without the labels; None if nothing is defective.

    Args:
        scores: Any shape, higher for a defect.
        is_defective: Bool of the same shape.
    """
    truth = np.asarray(is_defective).reshape(-1)
    if not truth.any():
        return None
    precision, recall, _ = precision_recall_curve(truth, np.asarray(scores).reshape(-1))
    total = precision + recall
    return float(np.max(np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)))


def compute_f1(scores: np.ndarray, is_defective: np.ndarray, threshold: float | None) -> float | None:
    """Compute the F1 of what lies above a threshold; None without a threshold, or if nothing is defective.

    Args:
        scores: Any shape, higher for a defect.
        is_defective: Bool of the same shape.
        threshold: What lies above it counts as found.
    """
    truth = np.asarray(is_defective).reshape(-1)
    if threshold is None or not truth.any():
        return None
    return float(f1_score(truth, np.asarray(scores).reshape(-1) > threshold, zero_division=0.0))


def compute_aupro(maps: Sequence[np.ndarray], masks: Sequence[np.ndarray], limit: float = 0.3) -> float | None:
    """Compute the area under the curve of the per-region overlap, up to a rate of false positives, divided by it.

    For each threshold, the overlap is the share of each connected region of the masks that lies above it, averaged
    over all regions of all images; the false positives are the share of all background pixels. Every score is a
    threshold: there is no grid of them. The curve is cut at the limit by linear interpolation (MVTec AD, Bergmann et
    al., International Journal of Computer Vision 2021, section 4.2).

    Args:
        maps: (H, W) per image, higher for a defect.
        masks: Bool (H, W) per image, True for a defect.
        limit: Rate of false positives at which the curve ends, above 0 and at most 1.

    Returns:
        From 0 to 1; None if there is no region or no background.

    Raises:
        UserError: If a mask has another size than its map, or the limit is out of its range.
    """
    if not 0 < limit <= 1:
        raise UserError(f'limit={limit} must be above 0 and at most 1: it is a rate of false positives.')
    scores, weights, regions = _gather_regions(maps, masks)
    background = int((weights == 0).sum())
    if not regions or not background:
        return None
    order = np.argsort(-scores, kind='stable')
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)  # the last of equal scores
    overlap = np.cumsum(weights[order])[ends] / regions
    false = np.cumsum(weights[order] == 0)[ends] / background
    return _integrate(np.append(0.0, false), np.append(0.0, overlap), limit)


def measure_images(scores: np.ndarray, is_defective: np.ndarray, threshold: float | None) -> dict[str, float | None]:
    """Measure the scores of images (N,): ``auroc``, ``f1_max``, and ``f1`` at a threshold."""
    return {
        'auroc': compute_auroc(scores, is_defective),
        'f1_max': compute_f1_max(scores, is_defective),
        'f1': compute_f1(scores, is_defective, threshold),
    }


def measure_pixels(
    maps: Sequence[np.ndarray], masks: Sequence[np.ndarray], threshold: float | None
) -> dict[str, float | None]:
    """Measure maps against masks: AUROC, AUPRO at 0.3 and 0.05, F1 at its best and at a threshold.

    Args:
        maps: (H, W) per image.
        masks: Bool (H, W) per image.
        threshold: Pixels above it count as found; None if there is none.

    Raises:
        UserError: If a mask has another size than its map.
    """
    _check_sizes(maps, masks)
    scores = np.concatenate([np.asarray(one).reshape(-1) for one in maps])
    truth = np.concatenate([np.asarray(one).reshape(-1) for one in masks])
    found = {'pixel_auroc': compute_auroc(scores, truth)}
    found |= {f'aupro_{limit}': compute_aupro(maps, masks, limit) for limit in PRO_LIMITS}
    return found | {
        'pixel_f1_max': compute_f1_max(scores, truth),
        'pixel_f1': compute_f1(scores, truth, threshold),
    }


def _gather_regions(maps: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the scores of all pixels, one over the size of the region of each (0 of the background), and a count."""
    _check_sizes(maps, masks)
    weights, regions = [], 0
    for mask in masks:
        labels, count = label(np.asarray(mask, bool), NEIGHBORS)
        sizes = np.bincount(labels.reshape(-1), minlength=count + 1).astype(np.float64)
        shares = np.append(0.0, 1 / sizes[1:])
        weights.append(shares[labels.reshape(-1)])
        regions += count
    return np.concatenate([np.asarray(one).reshape(-1) for one in maps]), np.concatenate(weights), regions


def _integrate(x: np.ndarray, y: np.ndarray, limit: float) -> float:
    """Integrate a curve that begins at 0 up to x = limit, and divide by the limit."""
    inside = x <= limit
    if not inside.all():
        x, y = np.append(x[inside], limit), np.append(y[inside], np.interp(limit, *_around(x, y, limit)))
    return float(auc(x, y) / limit)


def _around(x: np.ndarray, y: np.ndarray, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the last point at or before the limit and the first behind it."""
    behind = int(np.searchsorted(x, limit, side='right'))
    return x[behind - 1 : behind + 1], y[behind - 1 : behind + 1]


def _check_sizes(maps: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> None:
    if len(maps) != len(masks):
        raise UserError(f'There are {len(maps)} maps and {len(masks)} masks: give one mask for each map.')
    for number, (one, mask) in enumerate(zip(maps, masks, strict=True)):
        if np.shape(one) != np.shape(mask):
            raise UserError(
                f'Map {number} has the shape {np.shape(one)}, and its mask {np.shape(mask)}: resize one to the other.'
            )
