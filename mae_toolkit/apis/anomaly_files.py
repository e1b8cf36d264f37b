"""What a detector of anomalies writes: pictures, maps and boxes of images, and measures of a test set."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mae_toolkit.apis.per_image import GrowingRecord
from mae_toolkit.apis.predict import prepare_folder
from mae_toolkit.datasets.any_image import ImageLike
from mae_toolkit.downstream.predictor import to_display_rgb
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.anomaly.boxes import list_labeled
from mae_toolkit.evaluation.anomaly.detector import Detector
from mae_toolkit.evaluation.anomaly.layout import LabeledImage, read_mask
from mae_toolkit.evaluation.anomaly.metrics import measure_images, measure_pixels
from mae_toolkit.evaluation.anomaly.scoring import SCORES, Anomaly
from mae_toolkit.evaluation.embeddings.reading import Images, list_items
from mae_toolkit.files import atomic_write
from mae_toolkit.outputs import check_output, write_picture
from mae_toolkit.printing import format_count
from mae_toolkit.visualization.heat_map import draw_heat_map

RECORD, FIRST_KEY, TOOL = 'anomalies.json', 'thresholds', 'anomaly'
MEASURED = 'measured'  # the first key of the file of an evaluation
DEEPEST = 65535  # of a map of 16 bits


def write_anomalies(
    detector: Detector, images: Images, out: str | Path, side: int | None = None, force: bool = False
) -> dict[str, Any]:
    """Score images, and write a picture and a map for each, and ``anomalies.json``, into a folder.

    The picture is the image with its heat map and boxes; the map is a gray PNG of 16 bits in the size of the image.

    Args:
        detector: The fitted detector.
        images: A folder, files, arrays or pictures of Pillow.
        out: The folder; created if needed.
        side: Pixels of the longer side of each picture; if None, a small picture is enlarged.
        force: Replace files in the folder that were not written by this function.

    Returns:
        What the JSON file holds: ``thresholds``, ``decide_by``, ``percentile``; ``images``, for each its name, height
        and width, the names of its ``picture`` and ``map``, the values ``map_range`` that are black and white there,
        ``scores``, ``is_anomalous`` and ``boxes``; ``skipped``, the name and reason of each that was left out.

    Raises:
        UserError: If the folder holds some of the images or files of others, or no image could be scored.
    """
    out, (items, names) = Path(out), list_items(images)
    paths = [item if isinstance(item, Path) else Path(name) for item, name in zip(items, names, strict=True)]
    written = prepare_folder(out, paths, RECORD, FIRST_KEY, TOOL, ('map',), force)
    header = {
        FIRST_KEY: dict(detector.thresholds),
        'decide_by': detector.decide_by,
        'percentile': detector.percentile,
    }
    with GrowingRecord(out / RECORD, header) as record:
        for found in detector.score(items, [str(path) for path in paths], skip_misfits=True):
            picture, pixels = f'{written[found.index]}.png', f'{written[found.index]}_map.png'
            write_picture(out / picture, draw_anomaly(detector, items[found.index], found, side), TOOL)
            gray, low, high = _to_gray(found.resize_map())
            write_picture(out / pixels, gray, TOOL)
            record.add(_describe(found) | {'picture': picture, 'map': pixels, 'map_range': [low, high]})
        for name, reason in detector.skipped.items():
            record.skip(name, reason)
    if not record.images:
        first = record.skipped[0]
        count = format_count(len(record.skipped), 'image')
        name, reason = first['image'], first['reason'].rstrip('.')
        raise UserError(f'None of {count} can be scored; {reason if reason.startswith(name) else f"{name}: {reason}"}.')
    return record.to_dict()


def draw_anomaly(detector: Detector, image: ImageLike, found: Anomaly, side: int | None = None) -> Image.Image:
    """Draw the map and the boxes of an image over it; its colors end at twice the threshold."""
    value, limit = found.scores[detector.decide_by], detector.thresholds.get(detector.decide_by)
    caption = f'{detector.decide_by} {value:.2f}'
    if limit is not None:
        caption += f', {"above" if found.is_anomalous else "not above"} {limit:.2f}'
    boxes = [tuple(one['box']) for one in found.boxes]
    picture = to_display_rgb(image)
    hottest = find_hottest(detector, found)
    return draw_heat_map(picture, found.map, boxes, hottest, caption, found.is_anomalous, side)


def find_hottest(detector: Detector, found: Anomaly) -> float:
    """Find the value of the brightest color: twice the threshold of pixels or, without one, the greatest of the map."""
    threshold = detector.thresholds.get('pixel')
    return 2 * threshold if threshold is not None and threshold > 0 else float(found.map.max())


def evaluate_anomalies(
    detector: Detector,
    folder: str | Path,
    out: str | Path | None = None,
    force: bool = False,
    *,
    boxes: str | Path | None = None,
    normal: str | Path | None = None,
    normal_list: str | Path | None = None,
) -> dict[str, Any]:
    """Measure a detector on test images, in the layout of MVTec AD, each category by itself, or with boxes.

    Pixels are measured on the map of the detector, whose size the masks get by taking the nearest pixel. Where no masks
    are drawn, images are measured alone. The thresholds are those of the detector: no test image has a part in them.

    Args:
        detector: The fitted detector.
        folder: A category, or a folder of categories; with boxes, the images that have them.
        out: JSON file for the measures; nothing is written if None.
        force: Replace a file that this function did not write.
        boxes: COCO's JSON file with the defects of the images that it names, in place of the layout. Boxes are filled,
            so that what lies in a corner of one counts as defective.
        normal: With boxes: a folder of normal test images.
        normal_list: Text file or COCO's JSON file that names those of them that are used; all if None.

    Returns:
        ``measured``, by category and, of several, their ``mean``: the counts ``normal`` and ``defective``; for each of
        the scores ``max`` and ``top`` its ``auroc``, ``f1_max`` and ``f1``; ``pixel_auroc``, ``aupro_0.3``,
        ``aupro_0.05``, ``pixel_f1_max`` and ``pixel_f1``. None where it is not defined. ``thresholds``, and ``images``
        with the scores of each.

    Raises:
        UserError: If there are no test images or one cannot be read, a mask or what the file of boxes says has another
            size than the image, or an image is both normal and defective.
    """
    if out is not None:
        check_output(out, force, (), _is_evaluation)
    tested = list_labeled(folder, boxes, normal, normal_list)
    categories: dict[str, list[LabeledImage]] = {}
    for image in tested:
        categories.setdefault(image.category, []).append(image)
    measured: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    for name, images in categories.items():
        found = list(detector.score([image.path for image in images], [str(image.path) for image in images]))
        if detector.skipped:
            first, reason = next(iter(detector.skipped.items()))
            raise UserError(
                f'{format_count(len(detector.skipped), "test image")} of {name} cannot be read; {first}: {reason}.'
            )
        measured[name] = _measure(detector, images, found)
        rows += [
            _describe(one) | {'category': name, 'kind': image.kind} for image, one in zip(images, found, strict=True)
        ]
    if len(measured) > 1:
        measured['mean'] = _average(list(measured.values()))
    result = {MEASURED: measured, 'thresholds': dict(detector.thresholds), 'images': rows}
    if out is not None:
        os.makedirs(Path(out).parent, exist_ok=True)
        atomic_write(out, json.dumps(result, indent=1, allow_nan=False) + '\n')
    return result


def _measure(detector: Detector, images: Sequence[LabeledImage], found: Sequence[Anomaly]) -> dict[str, Any]:
    truth = np.array([image.is_defective for image in images])
    result: dict[str, Any] = {'normal': int((~truth).sum()), 'defective': int(truth.sum())}
    for score in SCORES:
        values = np.array([one.scores[score] for one in found])
        result[score] = measure_images(values, truth, detector.thresholds.get(score))
    if any(image.is_located for image in images):
        # Defective images without a mask are left out: their defects would count as background.
        known = [(i, f) for i, f in zip(images, found, strict=True) if i.is_located or not i.is_defective]
        masks = [_resize_mask(read_mask(image, one.size), one.map.shape) for image, one in known]
        result |= measure_pixels([one.map for _, one in known], masks, detector.thresholds.get('pixel'))
    return result


def _average(measured: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Average the measures of categories; None where one of them lacks it."""
    result: dict[str, Any] = {}
    for key in measured[0]:
        values: list[Any] = [one.get(key) for one in measured]
        if isinstance(values[0], Mapping):
            result[key] = _average(values)
        elif key in ('normal', 'defective'):
            result[key] = sum(values)
        else:
            result[key] = None if None in values else float(np.mean(values))
    return result


def _describe(found: Anomaly) -> dict[str, Any]:
    height, width = found.size
    entry: dict[str, Any] = {'image': found.name, 'height': height, 'width': width}
    return entry | {'scores': found.scores, 'is_anomalous': found.is_anomalous, 'boxes': list(found.boxes)}


def _resize_mask(mask: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Resize a mask to a map by the nearest pixel."""
    rows, columns = (
        ((np.arange(n) + 0.5) * length / n).astype(int) for n, length in zip(size, mask.shape, strict=True)
    )
    return mask[rows[:, None], columns]


def _to_gray(pixels: np.ndarray) -> tuple[Image.Image, float, float]:
    """Make a gray picture of 16 bits of a map, and return it with the values that are black and white there."""
    low, high = float(pixels.min()), float(pixels.max())
    scaled = (pixels - low) / max(high - low, 1e-12) * DEEPEST
    return Image.fromarray(scaled.round().astype(np.uint16)), low, high


def _is_evaluation(path: Path) -> bool:
    try:
        return MEASURED in json.loads(Path(path).read_bytes())
    except (OSError, ValueError, TypeError):
        return False
