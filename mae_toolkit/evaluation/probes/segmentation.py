"""Masks and patches: which class a patch is of, and how good predictions for patches are at pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from mae_toolkit.evaluation.probes.data import Part, Scores

IGNORED = -1  # label of pixels and patches that do not count


def _find_patches(size: int, count: int) -> Tensor:
    """Return in which of ``count`` patches each of ``size`` pixels lies; the last patch may be narrower."""
    return torch.arange(size) // -(-size // count)


def label_patches(masks: Tensor, rows: int, columns: int, classes: int) -> Tensor:
    """Find the class of most pixels of each patch.

    Args:
        masks: Class indices (N, H, W), :data:`IGNORED` where pixels do not count.
        rows: h, the patches in a column.
        columns: w, the patches in a row.
        classes: Number of classes.

    Returns:
        (N, h, w) int64, :data:`IGNORED` where most pixels do not count; of equal counts the lower class.
    """
    y, x = _find_patches(masks.shape[1], rows), _find_patches(masks.shape[2], columns)
    patch = y[:, None] * columns + x  # (H, W)
    bins = classes + 1  # the last one for pixels that do not count
    labels = []
    for mask in masks.long():
        mask = torch.where(mask == IGNORED, classes, mask)
        counts = torch.bincount((patch * bins + mask).flatten(), minlength=rows * columns * bins)
        labels.append(counts.view(rows, columns, bins).argmax(2))
    found = torch.stack(labels)
    return torch.where(found == classes, IGNORED, found)


def enlarge(labels: Tensor, height: int, width: int) -> Tensor:
    """Give each pixel the label of its patch: (N, h, w) -> (N, H, W)."""
    y, x = _find_patches(height, labels.shape[1]), _find_patches(width, labels.shape[2])
    return labels[:, y][:, :, x]


def count_pairs(predicted: Tensor, masks: Tensor, classes: int) -> Tensor:
    """Count pixels by their true and predicted class.

    Args:
        predicted: Classes (N, H, W).
        masks: True classes (N, H, W); :data:`IGNORED` does not count.
        classes: Number of classes.

    Returns:
        (classes, classes) int64, the true class by rows.
    """
    pairs = torch.where(masks == IGNORED, classes**2, masks.long() * classes + predicted)  # the last bin is dropped
    return torch.bincount(pairs.flatten(), minlength=classes**2 + 1)[:-1].view(classes, classes)


def score_pairs(pairs: Tensor) -> Scores:
    """Compute the mean intersection over union, and the share of pixels that are right.

    Classes that neither masks nor predictions have are left out of the mean, as scikit-learn's ``jaccard_score`` does.

    Args:
        pairs: What :func:`count_pairs` returns.
    """
    hits = pairs.diagonal().double()
    unions = pairs.sum(0) + pairs.sum(1) - hits
    found = unions > 0
    return {'miou': float((hits[found] / unions[found]).mean()), 'pixel_accuracy': float(hits.sum() / pairs.sum())}


def draw_patches(part: Part, classes: int, count: int, seed: int) -> Part:
    """Draw patches of images, with the class of most of their pixels; those that do not count are left out.

    Args:
        part: Maps (N, C, h, w) and masks (N, H, W).
        classes: Number of classes.
        count: Most patches.
        seed: Seed of the choice.

    Returns:
        Vectors (M, C) float32 and classes (M,).
    """
    rows, columns = part.features.shape[2:]
    labels = label_patches(part.labels, rows, columns, classes).flatten()
    known = (labels != IGNORED).nonzero().flatten()
    chosen = known[torch.randperm(len(known), generator=torch.Generator().manual_seed(seed))[:count]]
    features = part.features.flatten(2)[chosen // (rows * columns), :, chosen % (rows * columns)]
    return Part(features.float(), labels[chosen])
