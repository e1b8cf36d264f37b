"""Check of the images and masks of MMSegmentation's datasets."""

from __future__ import annotations

import inspect
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import DefaultScope

from mae_toolkit.datasets.checks.content import MAX_FILES, add_leaks
from mae_toolkit.datasets.checks.dataset_class import find_dataset_class
from mae_toolkit.datasets.checks.mask_files import MaskHeader, add_format_findings, add_size_findings, read_mask_headers
from mae_toolkit.datasets.checks.mask_labels import add_label_findings
from mae_toolkit.datasets.checks.mask_reader import MaskReader
from mae_toolkit.datasets.checks.report import SplitReport
from mae_toolkit.datasets.checks.semantic_config import check_arguments, check_list, compare_with_training
from mae_toolkit.datasets.checks.unreadable import add_unreadable
from mae_toolkit.datasets.image_headers import ImageHeader, read_image_headers
from mae_toolkit.datasets.item_arguments import check_integer
from mae_toolkit.errors import UserError, wrap_build_error

MAX_MASKS = 1000  # that are read if no SegmentationHook says how many


def can_check(dataset_cfg: Mapping, cfg: Mapping) -> bool:
    """Return whether a config is that of a dataset of MMSegmentation.

    Args:
        dataset_cfg: Config of the dataset.
        cfg: Config of the run, from which the default scope is read.
    """
    cls = find_dataset_class(dataset_cfg, cfg)
    mmseg = sys.modules.get('mmseg.datasets')  # if it is not imported, none of its classes was found
    return mmseg is not None and isinstance(cls, type) and issubclass(cls, mmseg.BaseSegDataset)


def check_dataset(dataset_cfg: Mapping, split: str, cfg: Mapping) -> SplitReport:
    """Check the images and masks of one dataset: the headers of all, and the labels of some masks.

    Args:
        dataset_cfg: Config of the dataset.
        split: ``'train'``, ``'val'`` or ``'test'``.
        cfg: Config of the run.
    """
    source = os.path.join(*(str(dataset_cfg.get(key) or '') for key in ('data_root', 'ann_file')))
    report = SplitReport(split, source, 'segmentation')
    try:
        _check(report, dataset_cfg, cfg)
    except UserError as error:
        report.add_sentence(str(error).rstrip('.'))
    return report


def _check(report: SplitReport, dataset_cfg: Mapping, cfg: Mapping) -> None:
    cls = find_dataset_class(dataset_cfg, cfg)
    if uses_remote_files(dataset_cfg):
        report.add_sentence('Its files are read through backend_args and were not checked', fatal=False)
        return
    check_arguments(cls, dataset_cfg, report.split)
    dataset = build_dataset(dataset_cfg, cfg, report.split, lazy_init=True)
    report.source = describe_source(dataset)
    check_list(report, dataset, cls)
    if report.errors:  # the names would be wrong, and so would be all that follows from them
        return
    with wrap_build_error(f'The dataset of {report.split}_dataloader'):
        dataset.full_init()
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    if not infos:
        raise UserError(_describe_no_images(dataset))
    report.images = len(infos)
    images = read_image_headers([info['img_path'] for info in infos])
    _add_missing(report, images, 'images', 'img_suffix')
    _add_unreadable(report, images, 'images')
    _check_masks(report, dataset, infos, images, dataset_cfg, cfg)
    if report.split != 'train':
        _compare_with_training_data(report, dataset, infos, cfg)


def uses_remote_files(dataset_cfg: Mapping) -> bool:
    """Return whether a dataset or a step of its pipeline reads files in another way than from a local disk."""
    parts = [dataset_cfg, *(dataset_cfg.get('pipeline') or [])]
    has_backend = any(part.get('backend_args') for part in parts if isinstance(part, Mapping))
    return has_backend or '://' in str(dataset_cfg.get('data_root') or '')


def build_dataset(dataset_cfg: Mapping, cfg: Mapping, split: str, lazy_init: bool = False) -> Any:
    """Build a dataset without its pipeline, as a run of this config would.

    Args:
        dataset_cfg: Config of the dataset.
        cfg: Config of the run, from which the default scope is read.
        split: ``'train'``, ``'val'`` or ``'test'``, for errors.
        lazy_init: Do not list the images yet.
    """
    bare = {'pipeline': [], 'lazy_init': lazy_init, 'serialize_data': False}
    parameters = inspect.signature(find_dataset_class(dataset_cfg, cfg).__init__).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):  # a user's own class may take less
        bare = {name: value for name, value in bare.items() if name in parameters}
    bare = {**dataset_cfg, **bare}
    with (
        DefaultScope.overwrite_default_scope(cfg.get('default_scope')),
        wrap_build_error(f'The dataset of {split}_dataloader'),
    ):
        return MMENGINE_DATASETS.build(bare)


def describe_source(dataset: Any) -> str:
    """Return the path of a dataset's list, or of the folder of its masks or images."""
    return dataset.ann_file or dataset.data_prefix.get('seg_map_path') or dataset.data_prefix.get('img_path') or ''


def find_leaf_configs(dataset: Any) -> list[Mapping]:
    """List the configs of the innermost datasets of wrappers that repeat, cut or join others; a plain one itself."""
    if isinstance(dataset, list | tuple):
        return [leaf for part in dataset for leaf in find_leaf_configs(part)]
    if not isinstance(dataset, Mapping):
        return []
    inner = [dataset[key] for key in ('dataset', 'datasets') if isinstance(dataset.get(key), Mapping | list | tuple)]
    return find_leaf_configs(inner) if inner else [dataset]


def _describe_no_images(dataset: Any) -> str:
    if dataset.ann_file:
        return f'{dataset.ann_file} names no images: it needs a name in each line.'
    folder = dataset.data_prefix.get('img_path') or ''
    found = Counter(os.path.splitext(name)[1] for _, _, names in os.walk(folder) for name in names)
    suffixes = ', '.join(f'{count} of {suffix!r}' for suffix, count in found.most_common(3)) or 'none at all'
    return (
        f'{folder} has no images whose names end with img_suffix={dataset.img_suffix!r} (there are files: {suffixes}): '
        'set img_suffix.'
    )


def _add_missing(report: SplitReport, headers: Sequence[ImageHeader | MaskHeader], noun: str, suffix: str) -> None:
    missing = [header.path for header in headers if header.is_missing]
    remedy = _remedy_for_missing(missing[0], suffix) if missing else ''
    for path in missing:
        report.add(f'{noun} are missing', str(path), total=len(headers), remedy=remedy, fatal=True)


def _remedy_for_missing(path: Path, suffix: str) -> str:
    """Return a remedy for a missing file: another suffix, if there is a file with the same stem beside it."""
    folder, stem = path.parent, path.name.split('.')[0]
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    near = [name for name in names if stem and name.startswith(stem) and name[len(stem) : len(stem) + 1] in '._- ']
    if not folder.is_dir():
        return f'there is no folder {folder}; set data_root and data_prefix'
    if path.stem in names:
        return f'there is {path.stem}: remove the suffix from the names in the list'
    if near and near[0] != path.name:
        return f'there is {near[0]}: set {suffix}, and write names without suffix in the list'
    return 'set data_root, data_prefix and the suffixes'


def _add_unreadable(report: SplitReport, headers: Sequence[ImageHeader | MaskHeader], noun: str) -> None:
    broken = [header for header in headers if header.size is None and not header.is_missing]
    for header in broken:
        add_unreadable(report, noun, f'{header.path}: {header.reason}', len(broken), len(headers))


def _check_masks(
    report: SplitReport,
    dataset: Any,
    infos: Sequence[dict],
    images: Sequence[ImageHeader],
    dataset_cfg: Mapping,
    cfg: Mapping,
) -> None:
    reader = MaskReader.from_config(dataset_cfg, cfg)
    if reader is None:  # it may be a test set without masks, or have the user's own loader
        return
    reduces_zero = reader.load.reduce_zero_label
    if reduces_zero not in (None, dataset.reduce_zero_label):
        raise UserError(
            f'LoadAnnotations has reduce_zero_label={reduces_zero}, and the dataset of {report.source} '
            f'{dataset.reduce_zero_label}: set it in the dataset alone.'
        )
    if not all('seg_map_path' in info for info in infos):
        report.add_sentence(
            'The dataset has no masks, and its pipeline loads them',
            "name their folder: data_prefix=dict(img_path='images', seg_map_path='labels')",
        )
        return
    masks = read_mask_headers([info['seg_map_path'] for info in infos])
    report.annotations = len(masks)
    _add_missing(report, masks, 'masks', 'seg_map_suffix')
    _add_unreadable(report, masks, 'masks')
    is_good = add_format_findings(report, masks) if reader.is_plain else [mask.size is not None for mask in masks]
    fits = add_size_findings(report, images, masks, dataset_cfg)
    readable = [info for info, *checks in zip(infos, is_good, fits, strict=True) if all(checks)]
    add_label_findings(report, dataset, readable, reader, min(_num_masks_to_read(cfg), len(readable)), cfg)


def _num_masks_to_read(cfg: Mapping) -> int:
    """Return how many masks are read, as the SegmentationHook of the config says."""
    hooks = [*(cfg.get('default_hooks') or {}).values(), *(cfg.get('custom_hooks') or ())]
    known = [hook['masks'] for hook in hooks if isinstance(hook, Mapping) and 'masks' in hook]
    if known:
        check_integer('masks', known[0], 0, 'how many masks are read before the first step')
    return known[0] if known else MAX_MASKS


def _compare_with_training_data(report: SplitReport, dataset: Any, infos: Sequence[dict], cfg: Mapping) -> None:
    """Compare a dataset with those of training: their classes, and whether they share images."""
    train_loader = cfg.get('train_dataloader')
    leaves = find_leaf_configs(train_loader.get('dataset') if isinstance(train_loader, Mapping) else None)
    leaves = [leaf for leaf in leaves if can_check(leaf, cfg) and not uses_remote_files(leaf)]
    trained = []
    for leaf in leaves:
        try:
            check_arguments(find_dataset_class(leaf, cfg), leaf, 'train')
            train = build_dataset(leaf, cfg, 'train')
        except UserError:  # training will raise it itself; its files may be on another machine
            continue
        compare_with_training(report, dataset, train)
        trained += [train.get_data_info(i)['img_path'] for i in range(len(train))]
    if len(infos) + len(trained) <= MAX_FILES:
        add_leaks(report, [info['img_path'] for info in infos], trained)
