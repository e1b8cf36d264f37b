"""Check of a run's data before its first step: errors, warnings, and what is left out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mae_toolkit.datasets.checks import coco, labeled, semantic, shards
from mae_toolkit.datasets.checks.content import add_leak
from mae_toolkit.datasets.checks.report import SPLITS, DataReport, Finding, SplitReport
from mae_toolkit.datasets.checks.semantic import find_leaf_configs
from mae_toolkit.datasets.checks.text import format_report

__all__ = ['SPLITS', 'DataReport', 'Finding', 'SplitReport', 'check_data', 'format_report']

# Whether a check is for a dataset's config, and the check itself; the first one that fits is used.
CHECKS: tuple[tuple[Callable[..., bool], Callable[..., SplitReport]], ...] = (
    (coco.can_check, coco.check_dataset),
    (semantic.can_check, semantic.check_dataset),
    (labeled.can_check, labeled.check_dataset),
    (shards.can_check, shards.check_dataset),
)


def check_data(cfg: Mapping[str, Any], splits: Sequence[str] = SPLITS) -> DataReport:
    """Check the data of a config without building dataloaders.

    Datasets for which there is no check, and dataloaders that are already built, are skipped. Data that two splits
    share is checked once.

    Args:
        cfg: The config of a run.
        splits: The splits to check, of ``'train'``, ``'val'`` and ``'test'``.
    """
    report = DataReport()
    known: dict[str, SplitReport] = {}
    for split in splits:
        for dataset in _iter_dataset_cfgs(cfg, split):
            check = next((check for can_check, check in CHECKS if can_check(dataset, cfg)), None)
            if check is None:
                continue
            key = _fingerprint(dataset, split, cfg)
            if key not in known:
                known[key] = check(dataset, split, cfg)
            report.splits.append(replace(known[key], split=split))
    _report_leaks(report)
    return report


def _report_leaks(report: DataReport) -> None:
    """Warn of images that are both trained on and evaluated."""
    trained = frozenset[str]().union(*(split.paths for split in report.splits if split.split == 'train'))
    for split in report.splits:
        shared = sorted(split.paths & trained) if split.split != 'train' else []
        for path in shared:
            add_leak(split, path, len(split.paths))


def _iter_dataset_cfgs(cfg: Mapping[str, Any], split: str) -> Iterator[dict[str, Any]]:
    """Yield the configs of a split's datasets, and one for each other annotation file that its evaluators read."""
    loader = cfg.get(f'{split}_dataloader')
    found = list(map(dict, find_leaf_configs(loader.get('dataset')))) if isinstance(loader, Mapping) else []
    yield from found
    files = {_source(dataset) for dataset in found}
    for file in coco.list_evaluator_files(cfg, split):
        if len(found) == 1 and file.resolve() not in files and coco.can_check(found[0], cfg):
            yield {**found[0], 'ann_file': str(file.resolve())}


def _source(dataset: Mapping[str, Any]) -> Path:
    return Path(dataset.get('data_root') or '', str(dataset.get('ann_file') or '')).resolve()


def _fingerprint(dataset: Mapping[str, Any], split: str, cfg: Mapping[str, Any]) -> str:
    """Return a key that is equal for datasets with the same check; validation and test differ by evaluators only."""
    evaluator = cfg.get(f'{split}_evaluator')
    return json.dumps([split == 'train', dataset, evaluator], sort_keys=True, default=repr)
