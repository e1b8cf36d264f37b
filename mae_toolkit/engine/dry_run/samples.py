"""Load a few samples of a data loader without drawing from its sampler or starting its workers."""

import copy
from collections.abc import Iterator, MutableMapping
from typing import Any, NamedTuple

from mmengine.dist import broadcast_object_list
from torch.utils.data import DataLoader, Dataset, IterableDataset

from mae_toolkit.datasets.reproducible import REPORT_KEY


class LoadedBatches(NamedTuple):
    """Batches in the form in which a model gets them.

    Attributes:
        batches: The batches.
        all_replaced: Whether every sample stands in for an image that could not be read, so that nothing can be tried.
    """

    batches: list
    all_replaced: bool


class FixedBatches:
    """A data loader of batches that are loaded already, with all other attributes of the original loader.

    Args:
        loader: The original.
        keys: Keys of each batch.
        batches: The batches.
    """

    def __init__(self, loader: DataLoader, keys: list[list], batches: list) -> None:
        self._loader, self.batch_sampler, self._batches = loader, keys, batches
        self.sampler = [key for batch in keys for key in batch]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._batches)


def draw_first_keys(loader: DataLoader, most: int) -> list[list] | None:
    """Return the first keys that the sampler of a loader would give, in batches, the same in all processes.

    They are drawn from a copy of the sampler. If it cannot be copied, they are the first indices.

    Args:
        loader: The data loader.
        most: Maximum number of keys.

    Returns:
        Batches of keys; an empty list if the loader is empty; None for a loader without keys (an ``IterableDataset``).
    """
    if isinstance(loader.dataset, IterableDataset) or loader.batch_sampler is None:
        return None
    dataset: Any = loader.dataset
    if not len(dataset):
        return []  # which some samplers cannot count
    try:
        sampler = copy.deepcopy(loader.batch_sampler, {id(one): one for one in _list_nested(dataset)})
    except (TypeError, RuntimeError):  # a sampler that holds a generator
        size, count = loader.batch_size or 1, min(most, len(dataset))
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
    """Load batches of the given keys, in one worker process if the loader has workers.

    Files that a dataset opens in its workers are then not opened in this process.

    Args:
        loader: The data loader, which says how to load.
        keys: Keys of each batch.
        dataset: Used in place of the loader's dataset, if given.
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
    """Return which samples stand in for others, and remove the report that the model must not see."""
    report = batch.pop(REPORT_KEY, None)
    return batch.get('replaced') if report is None else report['replaced']


def _list_nested(dataset: Any) -> Iterator[Any]:
    """Yield a dataset and those that it wraps."""
    while dataset is not None:
        yield dataset
        dataset = getattr(dataset, 'dataset', None)
