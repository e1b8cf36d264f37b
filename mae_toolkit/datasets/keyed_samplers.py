"""Samplers that turn the indices of other samplers into :class:`SampleKey`, from which random numbers follow."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from itertools import islice
from typing import Any

from mmengine.dist import get_dist_info
from mmengine.registry import DATA_SAMPLERS
from torch.utils.data import Sampler

from mae_toolkit.datasets.reproducible import ReproducibleDataset, SampleKey
from mae_toolkit.protocols import SetsEpoch, SkipsSamples


class KeyedSampler(Sampler):
    """Sampler that yields the indices of another one as keys that also hold the epoch and the position in it.

    Positions are counted over all processes and stay absolute after a resumption: a sampler that skips the first 100
    samples goes on at position 100. For example, process 1 of 2 yields the positions 1, 3, 5, ...

    Args:
        sampler: The other sampler, or its config, which is built as MMEngine builds it.
        dataset: The dataset that the indices refer to.
        seed: Seed for the sampler's config if that has none.
        as_pairs: Yield (epoch, index) as :class:`ImageDataset` takes it, instead of :class:`SampleKey`. The epoch of
            an endless sampler grows by one after each pass over the dataset.
    """

    def __init__(
        self, sampler: dict[str, Any] | Sampler, dataset: Sized, seed: int | None = None, as_pairs: bool = False
    ) -> None:
        inner = dataset.dataset if isinstance(dataset, ReproducibleDataset) else dataset
        if isinstance(sampler, dict):
            sampler = DATA_SAMPLERS.build(sampler, default_args={'dataset': inner, 'seed': seed})
        self.sampler: Any = sampler
        self._size, self._as_pairs = len(dataset), as_pairs
        self.epoch = self._skipped = self._start = 0
        self._rank, self._world_size = get_dist_info()
        if isinstance(sampler, SkipsSamples):
            self.skip = self._skip  # MMEngine's loop skips the fast way only where there is this method

    def __iter__(self) -> Iterator[SampleKey | tuple[int, int]]:
        """Yield keys until the other sampler ends."""
        start, self._start = self._start, 0
        for count, index in enumerate(islice(self.sampler, start, None), start + self._skipped):
            position = count * self._world_size + self._rank
            if self._as_pairs:
                yield self.epoch + position // self._size, index
            else:
                yield SampleKey(self.epoch, index, position)

    def __len__(self) -> int:
        """Return the length of the other sampler."""
        return len(self.sampler)

    def __getattr__(self, name: str) -> Any:
        """Look up attributes that only the other sampler has."""
        if name.startswith('__') or 'sampler' not in vars(self):
            raise AttributeError(name)
        return getattr(self.sampler, name)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the keys, and pass it on to the other sampler."""
        self.epoch = epoch
        if isinstance(self.sampler, SetsEpoch):
            self.sampler.set_epoch(epoch)

    def set_start(self, samples: int) -> None:
        """Leave out the first samples of this process in the next iteration only."""
        self._start = samples

    def _skip(self, samples: int) -> None:
        """Begin behind the first samples of this process."""
        self.sampler.skip(samples)
        self._skipped = samples


class KeyedBatchSampler(Sampler):
    """Batch sampler that yields the batches of another one with keys in place of indices; see :class:`KeyedSampler`.

    Args:
        batch_sampler: The other batch sampler, or its config, which is built as MMEngine builds it.
        sampler: Sampler for the batch sampler's config.
        batch_size: Batch size for the batch sampler's config.
    """

    def __init__(
        self,
        batch_sampler: dict[str, Any] | Sampler,
        sampler: Sampler | None = None,
        batch_size: int | None = None,
    ) -> None:
        if isinstance(batch_sampler, dict):
            batch_sampler = DATA_SAMPLERS.build(
                batch_sampler, default_args={'sampler': sampler, 'batch_size': batch_size}
            )
        self.batch_sampler: Any = batch_sampler
        self.epoch = self._start = 0
        self._rank, self._world_size = get_dist_info()

    @property
    def sampler(self) -> KeyedBatchSampler:
        """Return this object, as MMEngine sets the epoch of ``batch_sampler.sampler``."""
        return self

    def __iter__(self) -> Iterator[list[SampleKey]]:
        """Yield batches until the other batch sampler ends."""
        start, self._start = self._start, 0
        count = 0
        for number, batch in enumerate(self.batch_sampler):
            first, count = count, count + len(batch)
            if number >= start:
                positions = (i * self._world_size + self._rank for i in range(first, count))
                yield [SampleKey(self.epoch, index, p) for index, p in zip(batch, positions, strict=True)]

    def __len__(self) -> int:
        """Return the number of batches of the other batch sampler."""
        return len(self.batch_sampler)

    def __getattr__(self, name: str) -> Any:
        """Look up attributes that only the other batch sampler has."""
        if name.startswith('__') or 'batch_sampler' not in vars(self):
            raise AttributeError(name)
        return getattr(self.batch_sampler, name)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the keys, and pass it on to the sampler below."""
        self.epoch = epoch
        sampler = getattr(self.batch_sampler, 'sampler', None)
        if isinstance(sampler, SetsEpoch):
            sampler.set_epoch(epoch)

    def set_start(self, batches: int) -> None:
        """Leave out the first batches in the next iteration only."""
        self._start = batches
