"""Draw what a dataset of MMDetection or MMSegmentation gives a model: the image with its boxes, masks or labels."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from torch import Tensor

from mae_toolkit.visualization.grid import to_rgb
from mae_toolkit.visualization.predictions import Color, tint
from mae_toolkit.visualization.reconstruction import find_display_range


def draw_annotations(inputs: Tensor, sample: Any, colors: Sequence[Color]) -> np.ndarray:
    """Draw an item of a dataset: outlines of boxes, tints of masks and of labels; the rest of the picture stays.

    Args:
        inputs: (C, H, W) as the pipeline packs it; three channels are blue first.
        sample: A ``DetDataSample`` or ``SegDataSample``.
        colors: Red, green, blue by the number of the class; black classes and labels beyond them stay untinted.

    Returns:
        (H, W, 3) uint8.
    """
    image = inputs.numpy()
    image = image[::-1] if len(image) == 3 else image
    picture = np.ascontiguousarray(to_rgb(image, *find_display_range(image)))
    if 'gt_sem_seg' in sample:
        _draw_labels(picture, sample.gt_sem_seg.data[0].numpy(), colors)
    if 'gt_instances' in sample:
        _draw_instances(picture, sample.gt_instances, colors)
    return picture


def _draw_labels(picture: np.ndarray, labels: np.ndarray, colors: Sequence[Color]) -> None:
    for label in np.unique(labels):
        if 0 <= label < len(colors) and any(colors[label]):
            tint(picture, labels == label, colors[label], 1)


def _draw_instances(picture: np.ndarray, instances: Any, colors: Sequence[Color]) -> None:
    labels = instances.labels.tolist()
    if 'masks' in instances:
        for mask, label in zip(instances.masks.to_ndarray(), labels, strict=True):
            tint(picture, mask, colors[label % len(colors)], 1)
    if 'bboxes' in instances:
        boxes = getattr(instances.bboxes, 'tensor', instances.bboxes).numpy().round().astype(int)
        line = max(1, round(max(picture.shape) / 160))
        for (left, top, right, bottom), label in zip(boxes.tolist(), labels, strict=True):
            cv2.rectangle(picture, (left, top), (right - 1, bottom - 1), colors[label % len(colors)], line)


def pad_to_largest(pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Put pictures (H, W, 3) of several sizes on white ones of the largest height and width."""
    height, width = (max(picture.shape[axis] for picture in pictures) for axis in (0, 1))
    sheets = []
    for picture in pictures:
        sheet = np.full((height, width, 3), 255, np.uint8)
        sheet[: picture.shape[0], : picture.shape[1]] = picture
        sheets.append(sheet)
    return sheets
