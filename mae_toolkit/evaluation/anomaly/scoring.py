"""From the scores of patches to one map and a few numbers per image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.ndimage import find_objects, gaussian_filter, label
from torch import Tensor
from torch.nn.functional import interpolate

from mae_toolkit.evaluation.anomaly.branch import Branch
from mae_toolkit.evaluation.anomaly.metrics import NEIGHBORS
from mae_toolkit.evaluation.anomaly.tiles import Place, merge_tiles

SCORES = ('max', 'top')
TOP = 0.01  # share of the patches of an image whose mean is the score 'top'


@dataclass(frozen=True)
class RawScores:
    """Scores of the patches of an image, before they are calibrated.

    Attributes:
        index: Position of the image in the list that was asked for.
        size: Height and width of its file.
        places: Where its tiles lie.
        grids: (T, h, w) per branch.
        weights: Factors (T,) of the greatest score of each tile, per branch; None for 1.
        pixels: Height and width of a tile, or of the image if it was not cut, on the map.
    """

    index: int
    size: tuple[int, int]
    places: Sequence[Place]
    grids: Sequence[Tensor]
    weights: Sequence[Tensor | None]
    pixels: tuple[int, int]


@dataclass(frozen=True)
class Anomaly:
    """What a detector finds in an image.

    Scores are in standard deviations above the mean of the patches of held-out normal images.

    Attributes:
        index: Position of the image in the list that was asked for.
        name: What the image is called.
        size: Height and width of its file.
        map: (H, W) float32; of the size that the model sees or, if the image was cut into tiles, of the file.
        scores: ``'max'``, the greatest score of a patch, and ``'top'``, the mean of the greatest hundredth of them.
        is_anomalous: Whether the score of the detector's choice lies above its threshold; None without thresholds.
        boxes: Regions of the map above its threshold, the greatest score first: ``box`` (left, top, right, bottom in
            pixels of the file), ``score`` (the greatest inside) and ``area`` (pixels of the file).
    """

    index: int
    name: str
    size: tuple[int, int]
    map: np.ndarray
    scores: Mapping[str, float]
    is_anomalous: bool | None
    boxes: Sequence[Mapping[str, Any]]

    def resize_map(self) -> np.ndarray:
        """Return the map in the size of the file: (H, W)."""
        return resize_map(self.map, self.size)


def calibrate(branches: Sequence[Branch], held_out: Sequence[RawScores]) -> None:
    """Set the offset and scale of branches to mean and deviation of all patches of held-out normal images."""
    for number, branch in enumerate(branches):
        values = torch.cat([raw.grids[number].flatten() for raw in held_out]).double()
        branch.offset = float(values.mean())
        branch.scale = max(float(values.std(correction=0)), 1e-12)


def fuse(branches: Sequence[Branch], raw: RawScores) -> Tensor:
    """Average the standardized scores of branches on the finest of their grids: (T, h, w)."""
    size = [max(grid.shape[axis] for grid in raw.grids) for axis in (1, 2)]
    standardized = []
    for branch, grid in zip(branches, raw.grids, strict=True):
        x = (grid - branch.offset) / branch.scale
        if list(x.shape[1:]) != size:
            x = interpolate(x[:, None], size, mode='bilinear', align_corners=False)[:, 0]
        standardized.append(x)
    return torch.stack(standardized).mean(0)


def compute_scores(branches: Sequence[Branch], raw: RawScores) -> dict[str, float]:
    """Compute the scores of an image, see :data:`SCORES`."""
    patches = fuse(branches, raw)
    greatest = patches.flatten(1).amax(1)  # (T,)
    if len(branches) == 1 and raw.weights[0] is not None:
        (branch,) = branches
        greatest = (raw.grids[0].flatten(1).amax(1) * raw.weights[0] - branch.offset) / branch.scale
    values = patches.flatten()
    top = values.topk(max(1, round(TOP * len(values)))).values.mean()
    return {'max': float(greatest.max()), 'top': float(top)}


def compute_map(branches: Sequence[Branch], raw: RawScores, smooth: float) -> np.ndarray:
    """Compute the map (H, W) of an image: the patches enlarged to pixels, tiles merged, and smoothed.

    Args:
        branches: The branches.
        raw: Their scores.
        smooth: Standard deviation of the Gaussian in pixels of the map; 0 for none.
    """
    patches = fuse(branches, raw)
    pixels = interpolate(patches[:, None], raw.pixels, mode='bilinear', align_corners=False)[:, 0]
    whole = (merge_tiles(pixels, raw.places, raw.size) if len(pixels) > 1 else pixels[0]).cpu().numpy()
    return gaussian_filter(whole, smooth) if smooth else whole


def find_boxes(scores: np.ndarray, size: tuple[int, int], threshold: float | None) -> list[dict[str, Any]]:
    """Find the connected regions of a map that lie above a threshold.

    Args:
        scores: Map (H, W).
        size: Height and width of the image.
        threshold: None finds nothing.

    Returns:
        Boxes in pixels of the image, see :class:`Anomaly`.
    """
    if threshold is None:
        return []
    rows, columns = size[0] / scores.shape[0], size[1] / scores.shape[1]
    labels, _ = label(scores > threshold, NEIGHBORS)
    boxes = []
    for number, (y, x) in enumerate(find_objects(labels), 1):
        inside = labels[y, x] == number
        box = [x.start * columns, y.start * rows, x.stop * columns, y.stop * rows]
        boxes.append(
            {
                'box': [round(float(value), 2) for value in box],
                'score': float(scores[y, x][inside].max()),
                'area': round(int(inside.sum()) * rows * columns),
            }
        )
    return sorted(boxes, key=lambda one: -one['score'])


def resize_map(scores: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a map (h, w) to a height and width by bilinear interpolation."""
    if scores.shape == tuple(size):
        return scores
    x = torch.from_numpy(np.ascontiguousarray(scores))[None, None]
    return interpolate(x, size, mode='bilinear', align_corners=False)[0, 0].numpy()
