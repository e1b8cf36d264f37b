"""Check of the shards of a ShardDataset: which can be read, which are damaged, and how many images they hold."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from mae_toolkit.datasets.checks.report import SplitReport
from mae_toolkit.datasets.shards.collection import ShardCollection
from mae_toolkit.datasets.shards.dataset import ShardDataset
from mae_toolkit.datasets.shards.held_out import count_kept
from mae_toolkit.datasets.shards.sources import SourceError
from mae_toolkit.errors import UserError
from mae_toolkit.registry import DATASETS


def can_check(dataset_cfg: Mapping, cfg: Mapping) -> bool:
    """Return whether a config is that of a ShardDataset.

    Args:
        dataset_cfg: Config of the dataset.
        cfg: Not used.
    """
    cls = dataset_cfg.get('type')
    cls = DATASETS.get(cls) if isinstance(cls, str) else cls
    return inspect.isclass(cls) and issubclass(cls, ShardDataset)


def check_dataset(dataset_cfg: Mapping, split: str, cfg: Mapping) -> SplitReport:
    """Check the shards of one dataset; those of other machines whose length is known are not read.

    Args:
        dataset_cfg: Config of the dataset, which is not built.
        split: ``'train'``, ``'val'`` or ``'test'``.
        cfg: Not used.
    """
    urls: Any = dataset_cfg.get('urls', ())
    report = SplitReport(split, str(urls), 'classification' if dataset_cfg.get('labels') else 'pretraining')
    try:
        settings = (dataset_cfg.get(name) for name in ('split', 'cache', 'source'))
        shards = ShardCollection(urls, *settings)
        images = 0
        for length in shards.read_lengths(warn=False).tolist():
            report.images += count_kept(images, length, dataset_cfg.get('hold_out'))
            images += length
        for note in shards.take_notes():
            report.add_sentence(note.rstrip('.'), fatal=False)
    except (UserError, SourceError) as error:
        report.add_sentence(str(error).rstrip('.'))
    return report
