"""A picture of what a detector of anomalies finds, beside what is labeled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

from mae_toolkit.apis.anomaly import AnomalyDetector
from mae_toolkit.apis.anomaly_files import MEASURED
from mae_toolkit.downstream.predictor import to_display_rgb
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.anomaly.boxes import list_labeled
from mae_toolkit.evaluation.anomaly.layout import read_mask
from mae_toolkit.visualization.heat_map import draw_heat_beside_truth


def draw_labeled_anomalies(
    detector: AnomalyDetector,
    folder: str | Path,
    images: int = 2,
    measured: str | Path | None = None,
    boxes: str | Path | None = None,
    side: int = 320,
) -> Image.Image:
    """Draw the first defective test images, their heat maps, and where their defects are labeled.

    They are the first in the order of the folder, or of the file of boxes, so that nobody chooses them. All have one
    scale, whose brightest color is the greatest value in the picture.

    Args:
        detector: The fitted detector.
        folder: A category in the layout of MVTec AD, or, with boxes, the images that have them.
        images: How many images are shown.
        measured: What :meth:`AnomalyDetector.evaluate` wrote about the same test images, whose pixel AUROC heads the
            heat maps; no number if None.
        boxes: COCO's JSON file of defects, in place of that layout.
        side: Pixels of the longer side of each picture.

    Raises:
        UserError: If no test image has located defects, one cannot be read, or the file holds no evaluation.
    """
    heading = 'heat map'
    if measured is not None:
        heading += f': pixel AUROC {_read_pixel_auroc(measured):.2f}'
    located = [image for image in list_labeled(folder, boxes) if image.is_defective and image.is_located]
    if not located:
        raise UserError(f'{folder} has no test image whose defects are located by a mask or a box.')
    shown = located[:images]
    found = detector([str(image.path) for image in shown], show_progress=False)
    if detector.skipped:
        name, reason = next(iter(detector.skipped.items()))
        raise UserError(f'{name} cannot be shown: {reason}.')
    hottest = max(float(one.map.max()) for one in found)
    return draw_heat_beside_truth(
        [to_display_rgb(image.path) for image in shown],
        [one.map for one in found],
        [read_mask(image, one.size) for image, one in zip(shown, found, strict=True)],
        hottest,
        ('image', heading, 'labeled defects'),
        side,
    )


def _read_pixel_auroc(path: str | Path) -> float:
    """Read the pixel AUROC of an evaluation; of several categories, their mean."""
    try:
        measured: dict[str, Any] = json.loads(Path(path).read_bytes())[MEASURED]
        one = measured.get('mean') or next(iter(measured.values()))
        return float(one['pixel_auroc'])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration):
        raise UserError(f'{path} has no pixel AUROC: give what tools/anomaly.py evaluate --out wrote.') from None
