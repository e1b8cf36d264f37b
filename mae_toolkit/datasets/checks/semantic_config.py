"""Check of arguments and lists of MMSegmentation's datasets that it would misread or fail on in a stack trace."""

from __future__ import annotations

import codecs
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mae_toolkit.datasets.checks.report import SplitReport
from mae_toolkit.datasets.text_files import detect_wide_encoding
from mae_toolkit.errors import UserError
from mae_toolkit.printing import some


def check_arguments(cls: type, dataset_cfg: Mapping, split: str) -> None:
    """Refuse arguments with which a dataset cannot be built.

    Args:
        cls: Class of the dataset.
        dataset_cfg: Config of the dataset.
        split: ``'train'``, ``'val'`` or ``'test'``.

    Raises:
        UserError: If files or folders are missing, or classes and colors do not fit each other.
    """
    _check_files(dataset_cfg)
    metainfo = dataset_cfg.get('metainfo') or {}
    known: Any = getattr(cls, 'METAINFO', {}).get('classes')
    classes = metainfo.get('classes', known)
    if isinstance(classes, str):
        if not os.path.isfile(classes):
            raise UserError(f'metainfo.classes={classes!r} is one string, not a list of names: write ({classes!r},).')
        return
    if classes is None:
        if dataset_cfg.get('test_mode'):
            raise UserError(f'The dataset of {split}_dataloader names no classes: set metainfo=dict(classes=(...)).')
        return
    if repeated := [name for name, count in Counter(classes).items() if count > 1]:
        raise UserError(f'metainfo.classes has names twice ({some(repeated)}): each class needs its own.')
    if unknown := [name for name in classes if known is not None and name not in known]:
        raise UserError(
            f'{len(unknown)} of the {len(classes)} classes of metainfo ({some(unknown)}) are none of the {len(known)} '
            f'classes of {cls.__name__} ({some(known)}): name some of these, or use BaseSegDataset.'
        )
    palette = metainfo.get('palette', getattr(cls, 'METAINFO', {}).get('palette', ()))
    if len(palette) not in (0, len(classes)) and (known is None or len(palette) < len(classes)):
        raise UserError(
            f'metainfo.palette has {len(palette)} colors for {len(classes)} classes ({some(classes)}): give as many, '
            'or none.'
        )


def _check_files(dataset_cfg: Mapping) -> None:
    """Refuse a list or a folder of images that is not there."""
    root, list_file = dataset_cfg.get('data_root') or '', dataset_cfg.get('ann_file') or ''
    prefix = dataset_cfg.get('data_prefix') or {}
    for name, value in (('data_root', root), ('ann_file', list_file), *prefix.items()):
        if value is not None and not isinstance(value, str | Path):
            raise UserError(f'{name}={value!r} is not a path: write it as a string.')
    path = os.path.join(root, list_file)
    if list_file and os.path.isdir(path):
        raise UserError(f'ann_file={path} is a folder: name the list in it, or leave ann_file out for all images.')
    if list_file and not os.path.isfile(path):
        raise UserError(f'There is no list {path}: set data_root and ann_file.')
    folder = os.path.join(root, prefix.get('img_path') or '')
    if 'img_path' in prefix and not os.path.isdir(folder):
        raise UserError(f'There is no folder {folder}: set data_root and data_prefix.img_path.')


def check_list(report: SplitReport, dataset: Any, cls: Any) -> None:
    """Check the list of names as MMSegmentation reads it: as UTF-8, with every line a name.

    Args:
        report: Receives the findings.
        dataset: The dataset, whose ``ann_file`` is the list.
        cls: Class of the dataset.

    Raises:
        UserError: If it is in another encoding.
    """
    if not dataset.ann_file or cls.load_data_list is not _base_class().load_data_list:
        return
    data = Path(dataset.ann_file).read_bytes()
    if data.startswith(codecs.BOM_UTF8):
        report.add_sentence(
            'The list begins with a byte order mark, which MMSegmentation takes for a part of the first name',
            'save it as UTF-8 without it',
        )
    if detect_wide_encoding(data) or b'\0' in data:
        raise UserError(f'{dataset.ann_file} is in UTF-16 or not text: save it as UTF-8.')
    try:
        lines = data.decode('utf-8').split('\n')
    except UnicodeDecodeError as error:
        raise UserError(
            f'{dataset.ann_file} is not UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8.'
        ) from None
    if not lines[-1]:
        lines.pop()
    names = [line.strip() for line in lines]
    if not any(names):
        raise UserError(f'{dataset.ann_file} names no images: it needs a name in each line.')
    for number, name in enumerate(names, 1):
        if not name:
            report.add(
                'lines of the list are blank, and MMSegmentation takes them for names',
                f'line {number}',
                total=len(names),
                remedy='remove them',
                fatal=True,
            )
    for name, count in Counter(filter(None, names)).items():
        if count > 1:
            report.add('names are in the list more than once and weigh more', name, total=len(names))


def compare_with_training(report: SplitReport, dataset: Any, train: Any) -> None:
    """Report classes that have another index or name than in training, and another ``reduce_zero_label``.

    Args:
        report: Receives the findings.
        dataset: A dataset of validation or test.
        train: A dataset of training.
    """
    here, there = (list(one.metainfo.get('classes') or ()) for one in (dataset, train))
    if here and there and here != there:
        moved = [name for name in here if name in there and here.index(name) != there.index(name)]
        for name in moved or here:
            report.add(
                f'classes have another index than in training: {some(here)} here, {some(there)} there'
                if moved
                else f'classes have other names than in training: {some(here)} here, {some(there)} there',
                name,
                total=len(here),
                remedy='give both datasets the same metainfo',
                fatal=bool(moved),
            )
    if dataset.reduce_zero_label != train.reduce_zero_label:
        report.add_sentence(
            f'The dataset has reduce_zero_label={dataset.reduce_zero_label}, and training {train.reduce_zero_label}, '
            'by which the same label is another class',
            'give both the same, unless their masks differ',
            fatal=False,
        )


def _base_class() -> Any:
    from mmseg.datasets import BaseSegDataset

    return BaseSegDataset
