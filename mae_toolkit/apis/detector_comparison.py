"""Compare trained detectors on the same held-out images: their metrics, and a picture of their boxes."""

import copy
import json
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from PIL import Image

from mae_toolkit.apis.dataset_images import build_dataset
from mae_toolkit.apis.training import test
from mae_toolkit.checkpoints.run_folder import RunFolder, find_run
from mae_toolkit.config import load_config
from mae_toolkit.downstream import load_predictor
from mae_toolkit.downstream.predictor import choose_class_colors, find_test_dataset, to_display_rgb
from mae_toolkit.downstream.task_predictors import DEFAULT_SCORE
from mae_toolkit.errors import UserError, wrap_build_error
from mae_toolkit.files import atomic_write
from mae_toolkit.outputs import check_output, check_picture_name, is_own_picture, write_picture
from mae_toolkit.visualization.compared import SIDE, Boxes, draw_compared_boxes

TOOL = 'compare_detectors'
METRIC = 'coco/bbox_mAP'
LABELED = 'labeled'


@dataclass(frozen=True)
class ComparedDetectors:
    """What detectors found on the same images.

    Attributes:
        picture: A row per image: the labeled boxes, then those of each detector, with its AP on the whole test set.
        numbers: ``images``, the files that are shown; ``score``, from which on boxes are drawn; ``detectors``, by
            name the ``run``, its ``checkpoint``, all its ``metrics`` on the test set, and how many ``boxes`` are drawn
            on each image.
    """

    picture: Image.Image
    numbers: dict[str, Any]

    def write(self, out: str | Path) -> None:
        """Write the picture, and the numbers beside it as JSON."""
        write_picture(out, self.picture, TOOL)
        atomic_write(_numbers_file(out), json.dumps(self.numbers, indent=2) + '\n')


def compare_detectors(
    runs: Mapping[str, str | Path],
    images: int = 2,
    score: float = DEFAULT_SCORE,
    device: str = 'cpu',
    side: int = SIDE,
) -> ComparedDetectors:
    """Measure detectors on their test set, and draw what they find on its first images.

    Example::

        compared = compare_detectors({'from scratch': 'work_dirs/scratch', 'pretrained': 'work_dirs/pretrained'})
        compared.picture, compared.numbers['detectors']['pretrained']['metrics']['coco/bbox_mAP']

    The images are the first of the test set, in the order of its annotation file, so that nobody chooses them.

    Args:
        runs: Folders of trainings by the names that head their columns.
        images: How many images are shown.
        score: Boxes of a lower score are not drawn; the metrics count them.
        device: Device to predict on.
        side: Pixels of the longer side of each picture.

    Raises:
        UserError: If a folder is no run of a detector, or the runs have other test images or classes.
    """
    if not runs:
        raise UserError('No run is named: give each detector that is compared a name and a folder.')
    found = {name: find_run(folder) for name, folder in runs.items()}
    cfgs = {name: load_config(run.config) for name, run in found.items()}
    _check_same_test(cfgs)
    predictors = {name: load_predictor(cfgs[name], run.checkpoint, device, score=score) for name, run in found.items()}
    for name, predictor in predictors.items():
        if predictor.task != 'detection':
            raise UserError(f'{name!r} is a model of {predictor.task}, which finds no boxes: name runs of detectors.')
    paths, labeled, classes, colors = _read_labeled(next(iter(cfgs.values())), images)
    detectors: dict[str, Any] = {}
    columns = {LABELED: labeled}
    for name, predictor in predictors.items():
        boxes = [Boxes(result.boxes, result.labels) for result in map(predictor, paths)]
        metrics = _measure(cfgs[name], found[name])
        average = metrics.get(METRIC)
        columns[name if average is None else f'{name}: AP {100 * average:.1f}'] = boxes
        detectors[name] = {
            'run': str(found[name].folder),
            'checkpoint': str(found[name].checkpoint),
            'metrics': metrics,
            'boxes': [len(one.boxes) for one in boxes],
        }
    picture = draw_compared_boxes([to_display_rgb(path) for path in paths], columns, classes, colors, side)
    return ComparedDetectors(picture, {'images': paths, 'score': score, 'detectors': detectors})


def check_compared(out: str | Path, force: bool = False) -> None:
    """Refuse to write a comparison where that would replace files that this function did not write.

    Raises:
        UserError: If the name does not end in .png, or the picture or the JSON file beside it is there already.
    """
    check_picture_name(out)
    check_output(out, force, (), lambda path: is_own_picture(path, TOOL))
    if not is_own_picture(out, TOOL):
        check_output(_numbers_file(out), force)


def _numbers_file(out: str | Path) -> Path:
    return Path(out).with_suffix('.json')


def _check_same_test(cfgs: Mapping[str, Config]) -> None:
    """Refuse runs whose test sets differ in images or classes."""
    keys = ('data_root', 'ann_file', 'data_prefix', 'metainfo')
    tested = {name: {key: find_test_dataset(cfg).get(key) for key in keys} for name, cfg in cfgs.items()}
    first, *others = tested
    for name in others:
        different = [key for key in keys if tested[name][key] != tested[first][key]]
        if different:
            key = different[0]
            raise UserError(
                f'{name!r} has the test set {key}={tested[name][key]}, and {first!r} {key}={tested[first][key]}: '
                'compare detectors that were tested on the same images and classes.'
            )


def _measure(cfg: Config, run: RunFolder) -> dict[str, float | None]:
    """Test a run; None for a metric that the images do not have."""
    with tempfile.TemporaryDirectory() as logs:
        metrics = test(cfg, run.checkpoint, logs)
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def _read_labeled(cfg: Config, count: int) -> tuple[list[str], list[Boxes], list[str], Any]:
    """Read the paths and boxes of the first images of the test set, and its classes with their colors."""
    given = copy.deepcopy(find_test_dataset(cfg))
    with wrap_build_error('The dataset'):
        dataset = build_dataset(cfg, {**given, 'pipeline': []})
    infos = [dataset.get_data_info(i) for i in range(min(count, len(dataset)))]
    classes = [str(name) for name in dataset.metainfo['classes']]
    colors = choose_class_colors(classes, (given.get('metainfo') or {}).get('palette'))
    return [info['img_path'] for info in infos], [_to_boxes(info['instances']) for info in infos], classes, colors


def _to_boxes(instances: list[dict[str, Any]]) -> Boxes:
    kept = [one for one in instances if not one.get('ignore_flag')]
    boxes = np.array([one['bbox'] for one in kept], np.float32).reshape(-1, 4)
    return Boxes(boxes, np.array([one['bbox_label'] for one in kept], int))
