"""Load a few samples of a data loader without drawing from its sampler or starting its workers."""

import copy
from collections.abc import MutableMapping
from typing import NamedTuple

from mmengine.dist import broadcast_object_list
from torch.utils.data import DataLoader, Dataset, IterableDataset

from mae_toolkit.datasets.reproducible import REPORT_KEY


class LoadedBatches(NamedTuple):
    """Batches as a model sees them.

    Attributes:
        batches: The batches.
        all_replaced: Whether every sample stands in for an image that could not be read, so that there is nothing to
            look at.
    """

    batches: list
    all_replaced: bool


class FixedBatches:
    """Batches that were loaded already, in place of a data loader; whatever else is asked for is that loader's."""

    def __init__(self, loader: DataLoader, keys: list[list], batches: list):
        self._loader, self.batch_sampler, self._batches = loader, keys, batches
        self.sampler = [key for batch in keys for key in batch]

    def __getattr__(self, name: str):
        return getattr(self._loader, name)

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self):
        return iter(self._batches)


def first_keys(loader: DataLoader, most: int) -> list[list] | None:
    """Return the first keys that a loader's sampler would give, in batches, the same in all processes.

    The sampler itself gives none. Where it cannot be copied, the keys are the first indices.

    Args:
        loader: The data loader.
        most: How many keys to take.

    Returns:
        Batches of keys, without any if the loader is empty; None for a loader without keys (an ``IterableDataset``).
    """
    if isinstance(loader.dataset, IterableDataset) or loader.batch_sampler is None:
        return None
    if not len(loader.dataset):
        return []  # which some samplers cannot count
    try:
        sampler = copy.deepcopy(loader.batch_sampler, {id(dataset): dataset for dataset in _nested(loader.dataset)})
    except (TypeError, RuntimeError):  # a sampler that holds a generator
        size, count = loader.batch_size or 1, min(most, len(loader.dataset))
        sampler = [list(range(start, min(start + size, count))) for start in range(0, count, size)]
    found, left = [], most
    for batch in sampler:
        keys = list(batch)[:left]
        found += [keys]
        left -= len(keys)
        if left <= 0:
            break
    shared = [found]
    broadcast_object_list(shared)  # so that all processes fail alike, and none waits for another
    return shared[0]


def load_batches(loader: DataLoader, keys: list[list], dataset: Dataset | None = None) -> LoadedBatches:
    """Load batches of the given keys, in one worker process if the loader has any.

    So files that a dataset opens in its workers are not opened here.

    Args:
        loader: Says how to load.
        keys: Keys of each batch.
        dataset: In place of the loader's.
    """
    batches = list(
        DataLoader(
            loader.dataset if dataset is None else dataset,
            batch_sampler=keys,
            num_workers=min(loader.num_workers, 1),
            collate_fn=loader.collate_fn,
            worker_init_fn=loader.worker_init_fn,
            multiprocessing_context=loader.multiprocessing_context if loader.num_workers else None,
            timeout=loader.timeout,
        )
    )
    marks = [_take_marks(batch) for batch in batches if isinstance(batch, MutableMapping)]
    return LoadedBatches(batches, bool(marks) and all(mark and all(mark) for mark in marks))


def _take_marks(batch: MutableMapping) -> list[bool] | None:
    """Return which samples stand in for others; what a hook takes out before the model sees a batch is taken out."""
    report = batch.pop(REPORT_KEY, None)
    return batch.get('replaced') if report is None else report['replaced']


def _nested(dataset: Dataset):
    """Give a dataset and those that it wraps."""
    while dataset is not None:
        yield dataset
        dataset = getattr(dataset, 'dataset', None)
