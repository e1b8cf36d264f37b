"""Settings of a dataset in COCO's format: files, classes, and how MMDetection will read them."""

from __future__ import annotations

import copy
import inspect
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mae_toolkit.datasets.checks.dataset_class import find_dataset_class
from mae_toolkit.errors import UserError

MAX_LEFT_OUT = 0.5


@dataclass(frozen=True)
class CocoSettings:
    """Settings of a config that the check of an annotation file depends on.

    Attributes:
        split: ``'train'``, ``'val'`` or ``'test'``.
        ann_file: The annotation file.
        image_folder: The folder that file names are relative to.
        classes: Names of the classes, in the config's order.
        has_own_loading: Whether the dataset's class reads the file in another way than CocoDataset.
        needs_masks: Whether masks are loaded or measured.
        needs_polygons: Whether masks that are not polygons are left out (``poly2mask=False``).
        applies_orientation: Whether EXIF orientation is applied when images are read; None if that is not known.
        needs_annotations: Whether the split is trained on or measured, not only predicted.
        filters_empty: Whether images without an object of the classes are left out.
        min_size: Smallest side of an image that is not left out.
        indices: Number or indices of the images that are used, or None for all.
        is_local: Whether images are files of this machine.
        max_left_out: Fraction of the annotations that may be left out, or reach beyond their images.
    """

    split: str
    ann_file: Path
    image_folder: Path
    classes: tuple[str, ...]
    has_own_loading: bool
    needs_masks: bool
    needs_polygons: bool
    applies_orientation: bool | None
    needs_annotations: bool
    filters_empty: bool
    min_size: float
    indices: Any
    is_local: bool
    max_left_out: float

    @property
    def is_training(self) -> bool:
        """Return whether the split is for training."""
        return self.split == 'train'


def get_coco_class() -> Any:
    """Return MMDetection's CocoDataset, or None if MMDetection was not imported, and so none of its classes is used."""
    module = sys.modules.get('mmdet.datasets.coco')
    return getattr(module, 'CocoDataset', None)


def read_settings(dataset_cfg: Mapping[str, Any], split: str, cfg: Mapping[str, Any]) -> CocoSettings:
    """Read what a config says about a dataset.

    Args:
        dataset_cfg: Config of the dataset.
        split: ``'train'``, ``'val'`` or ``'test'``.
        cfg: Config of the run.

    Raises:
        UserError: If it names no annotation file, or no folder of images.
    """
    cls = find_dataset_class(dataset_cfg, cfg)
    values = _defaults(cls) | dict(dataset_cfg)
    root, file = values.get('data_root') or '', values.get('ann_file')
    if not isinstance(file, str | os.PathLike) or not str(file):
        raise UserError('the config names no annotation file: set ann_file.')
    prefix = values.get('data_prefix') or {}
    if not isinstance(prefix.get('img'), str):
        raise UserError("the config names no folder of images: set data_prefix=dict(img='images/').")
    steps = list(_iter_steps(values.get('pipeline') or []))
    evaluators = list(_evaluators(cfg, split))
    filters = {} if values.get('test_mode') else values.get('filter_cfg') or {}
    masks = [step for step in steps if step.get('with_mask')]
    return CocoSettings(
        split=split,
        ann_file=Path(root, file),
        image_folder=Path(root, prefix['img']),
        classes=_classes(cls, values),
        has_own_loading=cls.load_data_list is not get_coco_class().load_data_list,
        needs_masks=bool(masks) or any('segm' in _metrics(evaluator) for evaluator in evaluators),
        needs_polygons=any(step.get('poly2mask') is False for step in masks),
        applies_orientation=_applies_orientation(steps),
        needs_annotations=split == 'train' or not any(evaluator.get('format_only') for evaluator in evaluators),
        filters_empty=bool(filters.get('filter_empty_gt', False)),
        min_size=filters.get('min_size', 0),
        indices=values.get('indices'),
        is_local=_is_local(values, steps),
        max_left_out=_read_max_left_out(cfg),
    )


def list_evaluator_files(cfg: Mapping[str, Any], split: str) -> list[Path]:
    """List the annotation files that the evaluators of a split read themselves."""
    files = [evaluator.get('ann_file') for evaluator in _evaluators(cfg, split)]
    return [Path(file) for file in files if isinstance(file, str) and file.endswith('.json')]


def _defaults(cls: type) -> dict[str, Any]:
    """Return the default values of a constructor's arguments and of those of its parents."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if '__init__' in vars(base):
            parameters = inspect.signature(vars(base)['__init__']).parameters.values()
            found |= {p.name: p.default for p in parameters if p.default is not p.empty}
    return found


def _classes(cls: Any, values: Mapping[str, Any]) -> tuple[str, ...]:
    metainfo = cls._load_metainfo(copy.deepcopy(values.get('metainfo')))
    classes = metainfo.get('classes') or ()
    if isinstance(classes, str):
        raise UserError(f'the classes of the config are one string: write metainfo=dict(classes=({classes!r},)).')
    return tuple(classes)


def _read_max_left_out(cfg: Mapping[str, Any]) -> float:
    asked = cfg.get('data_check')
    limit = asked.get('max_left_out', MAX_LEFT_OUT) if isinstance(asked, Mapping) else MAX_LEFT_OUT
    if type(limit) not in (int, float) or not 0 <= limit <= 1:
        raise UserError(f'data_check.max_left_out is {limit!r}: set a fraction from 0 to 1.')
    return limit


def _iter_steps(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the configs of all transforms of a pipeline, and of those that contain others."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from _iter_steps(item)
    elif isinstance(value, Mapping):
        if 'type' in value:
            yield value
        for item in value.values():
            yield from _iter_steps(item)


def _evaluators(cfg: Mapping[str, Any], split: str) -> Iterator[Mapping[str, Any]]:
    if split != 'train':
        yield from _iter_steps(cfg.get(f'{split}_evaluator') or [])


def _metrics(evaluator: Mapping[str, Any]) -> list[str]:
    metric = evaluator.get('metric', ())
    return [metric] if isinstance(metric, str) else list(metric)


def _applies_orientation(steps: list[Mapping[str, Any]]) -> bool | None:
    loaders = [step for step in steps if str(step['type']).endswith('LoadImageFromFile')]
    if not loaders:
        return None
    color = str(loaders[0].get('color_type', 'color'))
    if loaders[0].get('imdecode_backend', 'cv2') not in ('cv2', 'pillow', None):
        return None
    return not (color == 'unchanged' or color.endswith('ignore_orientation'))


def _is_local(values: Mapping[str, Any], steps: list[Mapping[str, Any]]) -> bool:
    backends = [values.get('backend_args'), *(step.get('backend_args') for step in steps)]
    return all((backend or {}).get('backend', 'local') in ('local', 'disk') for backend in backends)
