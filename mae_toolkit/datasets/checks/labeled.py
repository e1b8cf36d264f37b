"""Check of the images and classes of a LabeledDataset, and of the list of an ImageDataset."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mae_toolkit.datasets.checks.content import MAX_FILES, add_leaks, find_duplicate_files
from mae_toolkit.datasets.checks.lists import (
    check_comments,
    check_missing,
    check_missing_in_pretraining,
    check_repeated,
    parse_lines,
)
from mae_toolkit.datasets.checks.report import SplitReport
from mae_toolkit.datasets.checks.unreadable import add_unreadable
from mae_toolkit.datasets.image_dataset import ImageDataset
from mae_toolkit.datasets.image_files import contains_images, infer_layout, list_images
from mae_toolkit.datasets.image_headers import read_image_headers
from mae_toolkit.datasets.item_arguments import apply_hold_out
from mae_toolkit.datasets.labeled_dataset import (
    LabeledDataset,
    check_fraction,
    check_not_coco,
    list_class_folders,
    select_fraction,
)
from mae_toolkit.datasets.training_classes import list_classes, takes_classes, use_training_classes
from mae_toolkit.errors import UserError
from mae_toolkit.printing import some
from mae_toolkit.registry import DATASETS
from mae_toolkit.spread import spread_indices

MAX_HEADERS = 10_000  # images whose headers are read, evenly spread; ImageNet has a hundred times as many


def can_check(dataset_cfg: Mapping, cfg: Mapping) -> bool:
    """Return whether a config is that of an ImageDataset or LabeledDataset, or of a subclass with the same images.

    Args:
        dataset_cfg: Config of the dataset.
        cfg: Not used.
    """
    cls = dataset_cfg.get('type')
    cls = DATASETS.get(cls) if isinstance(cls, str) else cls
    if not isinstance(cls, type) or not issubclass(cls, ImageDataset):
        return False
    ours = LabeledDataset if issubclass(cls, LabeledDataset) else ImageDataset
    return cls.__init__ is ours.__init__ and cls._list_images is ours._list_images


def check_dataset(dataset_cfg: Mapping, split: str, cfg: Mapping) -> SplitReport:
    """Check the images and labels of one dataset.

    Args:
        dataset_cfg: Config of the dataset, which is not built.
        split: ``'train'``, ``'val'`` or ``'test'``.
        cfg: Config of the run.
    """
    has_labels = takes_classes(dataset_cfg)
    report = SplitReport(split, _source(dataset_cfg), 'classification' if has_labels else 'pretraining')
    try:
        if has_labels:
            _check_labeled(report, dataset_cfg, cfg)
        else:
            _check_pretraining(report, dataset_cfg)
    except UserError as error:
        report.add_sentence(str(error).rstrip('.'))
    return report


def _check_pretraining(report: SplitReport, dataset_cfg: Mapping) -> None:
    names = _list_lines(report, dataset_cfg)
    report.images = len(apply_hold_out(names, dataset_cfg.get('hold_out')))
    if dataset_cfg.get('ann_file') is not None:
        check_missing_in_pretraining(report, Path(dataset_cfg['data_root']), names)


def _check_labeled(report: SplitReport, dataset_cfg: Mapping, cfg: Mapping) -> None:
    check_not_coco(dataset_cfg.get('layout'), dataset_cfg.get('ann_file'))
    lines, root = _list_lines(report, dataset_cfg), Path(dataset_cfg['data_root'])
    missing: set[str] = set()
    if dataset_cfg.get('ann_file') is not None:
        pairs = parse_lines(report, root, lines)
        check_repeated(report, pairs)
        missing = check_missing(report, root, pairs)
    else:
        pairs = _pair_with_folders(report, dataset_cfg, lines)
    pairs = [pair for pair in apply_hold_out(pairs, dataset_cfg.get('hold_out')) if pair[0] not in missing]
    classes = _check_classes(report, dataset_cfg, pairs, cfg)
    pairs = _keep_fraction(pairs, classes, dataset_cfg)
    counts = Counter(text for _, text in pairs)
    report.classes = {name: counts[name] for name in classes}
    report.images = report.annotations = len(pairs)
    _check_counts(report, cfg)
    names = [name for name, _ in pairs]
    _check_headers(report, root, names)
    _check_content(report, root, pairs)
    _check_leak(report, root, names, cfg)


def _list_lines(report: SplitReport, dataset_cfg: Mapping) -> list[str]:
    """List the images as the dataset does, or the lines of its list."""
    lines, ann_file = _list_images(dataset_cfg), dataset_cfg.get('ann_file')
    if ann_file is not None and (dataset_cfg.get('layout') or infer_layout(ann_file)) == 'list':
        root = Path(dataset_cfg['data_root'])
        check_comments(report, root, root / ann_file)
    return lines


def _list_images(dataset_cfg: Mapping) -> list[str]:
    names: list[Any] = [dataset_cfg.get(key) for key in ('data_root', 'ann_file', 'layout', 'split')]
    return list_images(*names)


def _source(dataset_cfg: Mapping) -> str:
    inner = dataset_cfg.get('ann_file') or dataset_cfg.get('split') or ''
    return os.path.join(str(dataset_cfg.get('data_root') or ''), str(inner))


def _pair_with_folders(report: SplitReport, dataset_cfg: Mapping, names: Sequence[str]) -> list[tuple[str, str]]:
    """Return path and class folder of each image; images beside the class folders become findings."""
    split, pairs = dataset_cfg.get('split') or '', []
    for name in names:
        parts = Path(name).relative_to(split).parts
        if len(parts) > 1:
            pairs.append((name, parts[0]))
            continue
        report.add(
            'images lie in no class folder',
            name,
            total=len(names),
            remedy='move each to <data_root>/<split>/<class>/',
            fatal=True,
        )
    folder = Path(dataset_cfg['data_root']) / split
    known = {text for _, text in pairs}
    for path in sorted(folder.iterdir()):
        if not path.is_dir() or path.name in known:
            continue
        if not path.name.startswith('.'):
            report.add('folders contain no images and are left out', path.name)
        elif contains_images(path):
            report.left_out[f'images in the hidden folder {path.name}'] += 1
            report.add('hidden folders contain images, which are left out', path.name)
    return pairs


def _check_classes(
    report: SplitReport, dataset_cfg: Mapping, pairs: Sequence[tuple[str, str]], cfg: Mapping
) -> list[str]:
    """Return the classes in the order of their indices, and report those that training lacks or indexes differently."""
    own = sorted({text for _, text in pairs})
    train = cfg.get('train_dataloader')
    named = use_training_classes({'dataset': dataset_cfg}, train)['dataset'].get('classes')
    if report.split == 'train':
        named = dataset_cfg.get('classes')
    if isinstance(named, str):
        folder = Path(dataset_cfg['data_root']) / named
        named = list_class_folders(folder) if folder.is_dir() else list_classes(dataset_cfg)
    classes = own if named is None else list(named)
    if report.split != 'train':
        _compare_with_training(report, classes, train)
    for name, text in pairs:
        if text not in classes:
            report.add(
                f'images are of a class that is none of the {len(classes)} classes, {some(classes)}',
                f'{name} of {text!r}',
                total=len(pairs),
                remedy=f'the {len(own)} classes here are {some(own)}; use the names of training',
                fatal=True,
            )
    if len(classes) < 2 and not report.errors:
        raise UserError(f'{report.source} has the classes {", ".join(classes) or "none"}: two or more, each once.')
    return classes


def _compare_with_training(report: SplitReport, classes: Sequence[str], train_loader: Any) -> None:
    """Report classes that have another index in training."""
    train: Any = train_loader.get('dataset') if isinstance(train_loader, Mapping) else None
    if not takes_classes(train):
        return
    try:
        known = list_classes(train)
    except UserError:  # the images of training are not here
        return
    for index, (here, there) in enumerate(zip(classes, known, strict=False)):
        if here != there:
            report.add(
                f'classes have another index than in training: {some(classes)} here, {some(known)} there',
                f'index {index} is {here!r} here, {there!r} there',
                total=len(classes),
                remedy='leave out classes=..., or give both datasets the same',
                fatal=True,
            )


def _keep_fraction(pairs: list[tuple[str, str]], classes: Sequence[str], dataset_cfg: Mapping) -> list[tuple[str, str]]:
    """Keep the images that ``label_fraction`` selects."""
    pairs = [pair for pair in pairs if pair[1] in classes]
    fraction = dataset_cfg.get('label_fraction')
    if fraction is None or not pairs:
        return pairs
    check_fraction('label_fraction', fraction)
    index_of = {text: index for index, text in enumerate(classes)}
    kept = select_fraction([index_of[text] for _, text in pairs], fraction, dataset_cfg.get('label_seed', 0))
    return [pairs[i] for i in kept]


def _check_counts(report: SplitReport, cfg: Mapping) -> None:
    """Report classes without an image, and classes for which the model has no output."""
    outputs = (cfg.get('model') or {}).get('num_classes')
    names = list(report.classes)
    if report.split == 'train' and isinstance(outputs, int) and outputs != len(names):
        report.add_sentence(
            f'The model has num_classes={outputs}, and the images of {report.source} are of {len(names)} classes '
            f'({some(names)})',
            f'set model.num_classes={len(names)}',
        )
    for index, (name, count) in enumerate(report.classes.items()):
        if not count:
            report.add('classes have no image', name, total=len(report.classes))
        elif report.split != 'train' and isinstance(outputs, int) and index >= outputs:
            report.add(
                f'classes have an index beyond the outputs of the model, 0 to {outputs - 1}',
                f'{name}: {index}',
                total=len(report.classes),
                remedy='set model.num_classes, or leave out their images',
                fatal=True,
            )


def _check_headers(report: SplitReport, root: Path, names: Sequence[str]) -> None:
    """Report images that cannot be read, by their headers."""
    paths = [root / names[place] for place in spread_indices(len(names), MAX_HEADERS)]
    broken = [header for header in read_image_headers(paths) if header.size is None]
    for header in broken:
        add_unreadable(report, 'images', f'{header.path}: {header.reason}', len(broken), len(paths))


def _check_content(report: SplitReport, root: Path, pairs: Sequence[tuple[str, str]]) -> None:
    """Report files with the same content under several classes."""
    texts = {root / name: text for name, text in pairs}
    for group in find_duplicate_files(list(texts)):
        if len({texts[path] for path in group}) > 1:
            report.add(
                'images lie under several classes, as files with the same content',
                ' = '.join(os.path.relpath(path, root) for path in group[:3]),
                remedy='keep each in one class',
            )


def _check_leak(report: SplitReport, root: Path, names: Sequence[str], cfg: Mapping) -> None:
    """Report images of validation or test that are trained on, by path and content."""
    train: Any = (cfg.get('train_dataloader') or {}).get('dataset')
    if report.split == 'train' or not takes_classes(train) or len(names) > MAX_FILES:
        return
    try:
        lines = _list_images(train)
    except UserError:  # the images of training are not here
        return
    lines = apply_hold_out(lines, train.get('hold_out'))
    if train.get('ann_file') is not None:
        lines = [line.rsplit(maxsplit=1)[0] for line in lines]
    trained = [os.path.join(train['data_root'], name) for name in lines]
    add_leaks(report, [os.path.join(root, name) for name in names], trained)
