"""Datasets of other libraries, with random numbers that follow from the draw and with a count of broken files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any, NamedTuple

from mmengine.logging import print_log
from mmengine.registry import DATASETS as ALL_DATASETS
from torch.utils.data import Dataset

from mae_toolkit.datasets.broken_files import BrokenMask, CheckedPipeline
from mae_toolkit.datasets.image_io import BrokenImage
from mae_toolkit.errors import UserError
from mae_toolkit.randomness import seeded_by

REPORT = 'broken_files'  # key of a batch, which BrokenImagesHook takes out before the model sees it


class Draw(NamedTuple):
    """What a sampler draws for a dataset whose random numbers follow from the draw.

    Attributes:
        epoch: The pass over the data, as the loop counts it.
        index: Which sample.
        place: How many samples all processes drew before this one in this epoch.
    """

    epoch: int
    index: int
    place: int


class Item(NamedTuple):
    """An item of a dataset, and what is broken about its files.

    Attributes:
        value: The item.
        broken: (path, reason, 'image' or 'mask') of the files in whose place it stands.
        used: The same of its own files that could be decoded in part.
    """

    value: Any
    broken: list[tuple[str, str, str]]
    used: list[tuple[str, str, str]]


class ReproducibleDataset(Dataset):
    """A dataset whose item depends on the seed and the draw alone: not on workers, processes or a resumption.

    While an item is made, the global generators of Python, NumPy and torch's CPU are seeded from the draw. A sample
    with a broken file is replaced by the next one. An index that is no draw gives the item as the dataset makes it.
    All else, such as ``metainfo`` or a change of the ``pipeline``, is passed on to the dataset.

    Args:
        dataset: The dataset, or its config, which is built as MMEngine builds it.
        seed: Seed of the random numbers.
        replace: Whether another sample may stand in for one that cannot be read. If not, a file that cannot be decoded
            ends the run, and one that is decoded in part is used and reported.
        max_tries: How many samples are tried in place of one.
    """

    def __init__(
        self,
        dataset: dict[str, Any] | Dataset,
        seed: int = 0,
        replace: bool = True,
        max_tries: int = 20,
    ) -> None:
        self.dataset = ALL_DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        if hasattr(self.dataset, 'full_init'):
            self.dataset.full_init()
        self.seed_of_draws, self.replace, self.max_tries = seed, replace, max_tries
        self._pipelines: list[CheckedPipeline] = []
        for part in find_parts(self.dataset):
            pipeline = getattr(part, 'pipeline', None)
            if callable(pipeline) and not isinstance(pipeline, CheckedPipeline):
                part.pipeline = self._checked(pipeline, len(part))
                if replace:
                    _warn_of_caches(pipeline)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.dataset)

    def __getitem__(self, key: Draw | int) -> Item | Any:
        """Make the item of a draw.

        Raises:
            UserError: If neither a sample nor those behind it can be read.
        """
        if not isinstance(key, Draw):
            return self.dataset[key]
        broken = []
        for attempt in range(min(self.max_tries + 1, len(self))):
            try:
                with seeded_by(self.seed_of_draws, key.epoch, key.place, attempt):
                    value = self.dataset[(key.index + attempt) % len(self)]
            except BrokenImage as error:
                if not self.replace:
                    raise UserError(
                        f'The {_what(error)} {error.path} cannot be read ({error.reason}), and nothing may stand in '
                        'for what is evaluated: mend it, or take it out of the annotations.'
                    ) from error
                broken.append(_entry(error))
                continue
            return Item(value, broken, self._pop_damaged())
        (first, reason, _), (last, *_) = broken[0], broken[-1]
        raise UserError(
            f'{len(broken)} samples in a row could not be read, from {first} ({reason}) to {last}: mend or remove '
            'these files, or correct data_root and data_prefix of the dataset.'
        )

    def __getattr__(self, name: str) -> Any:
        """Look up what only the dataset has."""
        if name.startswith('__') or 'dataset' not in vars(self):
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Change the dataset, as hooks do that exchange its pipeline during training."""
        if name in OWN or 'dataset' not in vars(self):
            return super().__setattr__(name, value)
        if name == 'pipeline' and callable(value) and not isinstance(value, CheckedPipeline):
            value = self._checked(value, len(self))
        return setattr(self.dataset, name, value)

    def _checked(self, pipeline: Callable[[dict[str, Any]], Any], size: int) -> CheckedPipeline:
        self._pipelines.append(CheckedPipeline(pipeline, size, forgiving=not self.replace))
        return self._pipelines[-1]

    def _pop_damaged(self) -> list[tuple[str, str, str]]:
        """Return what was used in part since the last call."""
        found = [_entry(error) for pipeline in self._pipelines for error in pipeline.damaged]
        for pipeline in self._pipelines:
            pipeline.damaged.clear()
        return found


OWN = ('dataset', 'seed_of_draws', 'replace', 'max_tries', '_pipelines')  # attributes that are not the dataset's


class ReportingCollate:
    """Collate the values of items as another function does, and add to the batch what could not be read.

    Args:
        collate: The other function.
        report: Whether anyone takes the report out of the batch; without, it is left out.
    """

    def __init__(self, collate: Callable[[list[Any]], Any], report: bool = True) -> None:
        self.collate, self.report = collate, report

    def __call__(self, items: list[Item | Any]) -> Any:
        """Make a batch of items.

        Raises:
            UserError: If a file is broken and the batch is no dict, so that it cannot be counted.
        """
        items = [item if isinstance(item, Item) else Item(item, [], []) for item in items]  # of a key that is no draw
        batch = self.collate([item.value for item in items])
        broken = [entry for item in items for entry in item.broken]
        used = [entry for item in items for entry in item.used]
        counts_itself = isinstance(batch, MutableMapping) and 'replaced' in batch and not broken + used
        if self.report and isinstance(batch, MutableMapping) and not counts_itself:
            batch[REPORT] = {'replaced': [bool(item.broken) for item in items], 'broken': broken, 'used': used}
        elif self.report and broken + used:
            path, reason, what = (broken + used)[0]
            raise UserError(
                f'The {what} {path} cannot be read ({reason}), and it is not counted as batches of '
                f'{type(batch).__name__} have no place for a report: mend it, or use a collate_fn that makes dicts.'
            )
        return batch


def find_parts(dataset: Any) -> Iterator[Any]:
    """Yield the datasets that one repeats, cuts, mixes or joins, or itself."""
    inner = getattr(dataset, 'datasets', None) or getattr(dataset, 'dataset', None)
    if inner is None:
        yield dataset
        return
    for part in inner if isinstance(inner, list | tuple) else [inner]:
        yield from find_parts(part)


def _warn_of_caches(pipeline: Any) -> None:
    """Say which transforms mix in earlier images, such as MMDetection's CachedMosaic: those are of their worker."""
    for transform in getattr(pipeline, 'transforms', ()):
        if hasattr(transform, 'results_cache'):
            print_log(
                f'{type(transform).__name__} mixes in earlier images of the same worker, which no checkpoint holds: a '
                'resumed run, or one with another num_workers, sees other mixtures.',
                'current',
                logging.WARNING,
            )


def _what(error: BrokenImage) -> str:
    return 'mask' if isinstance(error, BrokenMask) else 'image'


def _entry(error: BrokenImage) -> tuple[str, str, str]:
    return error.path, error.reason, _what(error)
