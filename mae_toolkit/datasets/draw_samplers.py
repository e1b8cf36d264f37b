"""Samplers of other libraries whose indices carry the epoch and the place at which they were drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from itertools import islice
from typing import Any

from mmengine.dist import get_dist_info
from mmengine.registry import DATA_SAMPLERS
from torch.utils.data import Sampler

from mae_toolkit.datasets.reproducible import Draw, ReproducibleDataset


class DrawSampler(Sampler):
    """Yield the indices of another sampler as draws, each with its epoch and its place in the run.

    The place is the absolute one, after a resumption too: one that skips samples goes on counting behind them.

    Args:
        sampler: The other sampler, or its config, which is built as MMEngine builds it.
        dataset: Whose indices they are.
        seed: For the config, unless it names one.
        pairs: Yield (epoch, index), as :class:`ImageDataset` takes it, where an endless sampler begins a new epoch
            whenever the dataset has been passed once.
    """

    def __init__(
        self, sampler: dict[str, Any] | Sampler, dataset: Sized, seed: int | None = None, pairs: bool = False
    ) -> None:
        inner = dataset.dataset if isinstance(dataset, ReproducibleDataset) else dataset
        if isinstance(sampler, dict):
            sampler = DATA_SAMPLERS.build(sampler, default_args={'dataset': inner, 'seed': seed})
        self.sampler, self._size, self._pairs = sampler, len(dataset), pairs
        self.epoch = self._skipped = self._start = 0
        self._rank, self._world = get_dist_info()
        if hasattr(sampler, 'skip'):
            self.skip = self._skip  # MMEngine's loop takes the fast way only where there is this method

    def __iter__(self) -> Iterator[Draw | tuple[int, int]]:
        """Draw until the other sampler ends."""
        start, self._start = self._start, 0
        for position, index in enumerate(islice(self.sampler, start, None), start + self._skipped):
            place = position * self._world + self._rank
            yield (self.epoch + place // self._size, index) if self._pairs else Draw(self.epoch, index, place)

    def __len__(self) -> int:
        """Return the length of the other sampler."""
        return len(self.sampler)

    def __getattr__(self, name: str) -> Any:
        """Look up what only the other sampler has."""
        if name.startswith('__') or 'sampler' not in vars(self):
            raise AttributeError(name)
        return getattr(self.sampler, name)

    def set_epoch(self, epoch: int) -> None:
        """Note the epoch, and pass it on."""
        self.epoch = epoch
        if hasattr(self.sampler, 'set_epoch'):
            self.sampler.set_epoch(epoch)

    def set_start(self, samples: int) -> None:
        """Leave out so many samples of this process, once."""
        self._start = samples

    def _skip(self, samples: int) -> None:
        """Begin behind so many samples of this process."""
        self.sampler.skip(samples)
        self._skipped = samples


class DrawBatchSampler(Sampler):
    """Yield the batches of another batch sampler with draws in place of indices; see :class:`DrawSampler`.

    Args:
        batch_sampler: The other batch sampler, or its config, which is built as MMEngine builds it.
        sampler: For the config.
        batch_size: For the config.
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
        self.batch_sampler = batch_sampler
        self.epoch = self._start = 0
        self._rank, self._world = get_dist_info()

    @property
    def sampler(self) -> DrawBatchSampler:
        """This object, as MMEngine sets the epoch of ``batch_sampler.sampler``."""
        return self

    def __iter__(self) -> Iterator[list[Draw]]:
        """Draw until the other batch sampler ends."""
        start, self._start = self._start, 0
        position = 0
        for number, batch in enumerate(self.batch_sampler):
            first, position = position, position + len(batch)
            if number >= start:
                places = range(first, position)
                yield [Draw(self.epoch, i, p * self._world + self._rank) for i, p in zip(batch, places, strict=True)]

    def __len__(self) -> int:
        """Return the number of batches of the other batch sampler."""
        return len(self.batch_sampler)

    def __getattr__(self, name: str) -> Any:
        """Look up what only the other batch sampler has."""
        if name.startswith('__') or 'batch_sampler' not in vars(self):
            raise AttributeError(name)
        return getattr(self.batch_sampler, name)

    def set_epoch(self, epoch: int) -> None:
        """Note the epoch, and pass it on."""
        self.epoch = epoch
        sampler = getattr(self.batch_sampler, 'sampler', None)
        if hasattr(sampler, 'set_epoch'):
            sampler.set_epoch(epoch)

    def set_start(self, batches: int) -> None:
        """Leave out so many batches, once."""
        self._start = batches
