"""Datasets of other libraries, with random numbers that follow from a sample's key and a report of broken files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any, NamedTuple

from mmengine.logging import print_log
from mmengine.registry import DATASETS as ALL_DATASETS
from torch.utils.data import Dataset

from mae_toolkit.datasets.broken_files import BrokenMaskError, CheckedPipeline
from mae_toolkit.datasets.image_io import BrokenImageError
from mae_toolkit.errors import UserError
from mae_toolkit.randomness import seeded_by

REPORT_KEY = 'broken_files'  # key of a batch, which BrokenImagesHook takes out before the model sees it


FileReport = tuple[str, str, str]  # path, reason, and 'image' or 'mask'


class SampleKey(NamedTuple):
    """A sample to load, together with all that its random numbers follow from besides the seed.

    Attributes:
        epoch: The pass over the data, as the loop counts it.
        index: Index of the sample in the dataset.
        position: Number of samples that all processes took before this one in this epoch.
    """

    epoch: int
    index: int  # type: ignore[assignment]  # hides tuple.index
    position: int


class ReportedItem(NamedTuple):
    """An item of a dataset, and the broken files that were met while it was loaded.

    Attributes:
        value: The item.
        broken: Files of the samples that were skipped, and that the item replaces.
        damaged: The item's own files that could be decoded only in part.
    """

    value: Any
    broken: list[FileReport]
    damaged: list[FileReport]


class ReproducibleDataset(Dataset):
    """Wrapper of a dataset whose items depend on the seed and their keys alone, not on workers or a resumption.

    While an item is loaded, the global generators of Python, NumPy and torch's CPU are seeded from the key. A sample
    with a broken file is replaced by the next one. A plain index, instead of a :class:`SampleKey`, returns the item as
    the dataset makes it. All other attributes, such as ``metainfo`` or a new ``pipeline``, are those of the dataset.

    Args:
        dataset: The dataset, or its config, which is built as MMEngine builds it.
        seed: Seed of the random numbers.
        replace_broken: Replace a sample that cannot be read by the next one, as in training. Otherwise, as in
            evaluation, a file that cannot be decoded ends the run, and one that can be decoded in part is used and
            reported.
        max_tries: Maximum number of samples that are tried in place of a broken one.
    """

    def __init__(
        self,
        dataset: dict[str, Any] | Dataset,
        seed: int = 0,
        replace_broken: bool = True,
        max_tries: int = 20,
    ) -> None:
        self.dataset = ALL_DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        if hasattr(self.dataset, 'full_init'):
            self.dataset.full_init()
        self.sample_seed, self.replace_broken, self.max_tries = seed, replace_broken, max_tries
        self._pipelines: list[CheckedPipeline] = []
        for leaf in find_leaf_datasets(self.dataset):
            pipeline = getattr(leaf, 'pipeline', None)
            if callable(pipeline) and not isinstance(pipeline, CheckedPipeline):
                leaf.pipeline = self._add_checks(pipeline, len(leaf))
                if replace_broken:
                    _warn_of_caches(pipeline)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, key: SampleKey | int) -> ReportedItem | Any:
        """Load the item of a key.

        Raises:
            UserError: If neither the sample nor those tried in its place can be read.
        """
        if not isinstance(key, SampleKey):
            return self.dataset[key]
        broken = []
        for attempt in range(min(self.max_tries + 1, len(self))):
            try:
                with seeded_by(self.sample_seed, key.epoch, key.position, attempt):
                    value = self.dataset[(key.index + attempt) % len(self)]
            except BrokenImageError as error:
                if not self.replace_broken:
                    raise UserError(
                        f'The {_file_type(error)} {error.path} cannot be read ({error.reason}), and samples are not '
                        'replaced in evaluation: fix the file, or remove it from the annotations.'
                    ) from error
                broken.append(_entry(error))
                continue
            return ReportedItem(value, broken, self._pop_damaged())
        (first, reason, _), (last, *_) = broken[0], broken[-1]
        raise UserError(
            f'{len(broken)} samples in a row could not be read, from {first} ({reason}) to {last}: fix or remove '
            'these files, or correct data_root and data_prefix of the dataset.'
        )

    def __getattr__(self, name: str) -> Any:
        """Look up attributes that only the dataset has."""
        if name.startswith('__') or 'dataset' not in vars(self):
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute of the dataset, as hooks do that exchange its pipeline during training."""
        if name in OWN_ATTRIBUTES or 'dataset' not in vars(self):
            return super().__setattr__(name, value)
        if name == 'pipeline' and callable(value) and not isinstance(value, CheckedPipeline):
            value = self._add_checks(value, len(self))
        return setattr(self.dataset, name, value)

    def _add_checks(self, pipeline: Callable[[dict[str, Any]], Any], size: int) -> CheckedPipeline:
        self._pipelines.append(CheckedPipeline(pipeline, size, allow_truncated=not self.replace_broken))
        return self._pipelines[-1]

    def _pop_damaged(self) -> list[FileReport]:
        """Return the files that were decoded in part since the last call."""
        found = [_entry(error) for pipeline in self._pipelines for error in pipeline.damaged]
        for pipeline in self._pipelines:
            pipeline.damaged.clear()
        return found


# Attributes that are not those of the wrapped dataset.
OWN_ATTRIBUTES = ('dataset', 'sample_seed', 'replace_broken', 'max_tries', '_pipelines')


class ReportingCollate:
    """Collate function that calls another one, and adds a report of broken files to the batch.

    The report is ``batch['broken_files']``: a dict of ``replaced`` (for each item, whether it replaces another),
    ``broken`` and ``damaged``, as in :class:`ReportedItem`.

    Args:
        collate: The function that makes a batch of the values of items.
        report: Add the report. It is left out where no hook takes it out of the batch again.
    """

    def __init__(self, collate: Callable[[list[Any]], Any], report: bool = True) -> None:
        self.collate, self.report = collate, report

    def __call__(self, items: list[ReportedItem | Any]) -> Any:
        """Collate items to a batch.

        Raises:
            UserError: If a file is broken and the batch is not a dict that could hold the report.
        """
        items = [item if isinstance(item, ReportedItem) else ReportedItem(item, [], []) for item in items]
        batch = self.collate([item.value for item in items])
        broken = [entry for item in items for entry in item.broken]
        damaged = [entry for item in items for entry in item.damaged]
        counts_itself = isinstance(batch, MutableMapping) and 'replaced' in batch and not broken + damaged
        if self.report and isinstance(batch, MutableMapping) and not counts_itself:
            batch[REPORT_KEY] = {
                'replaced': [bool(item.broken) for item in items],
                'broken': broken,
                'damaged': damaged,
            }
        elif self.report and broken + damaged:
            path, reason, file_type = (broken + damaged)[0]
            raise UserError(
                f'The {file_type} {path} cannot be read ({reason}), which cannot be reported in batches of type '
                f'{type(batch).__name__}: fix the file, or use a collate_fn that returns a dict.'
            )
        return batch


def find_leaf_datasets(dataset: Any) -> Iterator[Any]:
    """Yield the innermost datasets of a wrapper that repeats, cuts, mixes or joins others; a plain dataset itself."""
    inner = getattr(dataset, 'datasets', None) or getattr(dataset, 'dataset', None)
    if inner is None:
        yield dataset
        return
    for part in inner if isinstance(inner, list | tuple) else [inner]:
        yield from find_leaf_datasets(part)


def _warn_of_caches(pipeline: Any) -> None:
    """Warn of transforms that mix in earlier images of the same worker, such as MMDetection's CachedMosaic."""
    for transform in getattr(pipeline, 'transforms', ()):
        if hasattr(transform, 'results_cache'):
            print_log(
                f'{type(transform).__name__} mixes in earlier images of the same worker, which no checkpoint holds: a '
                'resumed run, or one with another num_workers, sees other mixtures.',
                'current',
                logging.WARNING,
            )


def _file_type(error: BrokenImageError) -> str:
    return 'mask' if isinstance(error, BrokenMaskError) else 'image'


def _entry(error: BrokenImageError) -> FileReport:
    return error.path, error.reason, _file_type(error)
