"""In which order images come."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from itertools import islice
from math import ceil
from typing import Any, NamedTuple

import numpy as np
from mmengine.dist import get_dist_info
from mmengine.registry import DATA_SAMPLERS as ALL_SAMPLERS
from torch.utils.data import Sampler

from mae_toolkit.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class EpochSampler(Sampler):
    """Keys (epoch, index), in an order that depends on seed and epoch alone.

    The processes take turns, so that n processes with batches of b see in each step what one process with a batch of
    n*b sees. A run may begin within an epoch.

    Args:
        dataset (Dataset): What is sampled.
        shuffle (bool): Another order in each epoch.
        seed (int | None): Of the order.
        round_up (bool): Give all processes the same number of images, some twice.
    """

    def __init__(self, dataset, shuffle=True, seed=0, round_up=True):
        self.rank, self.world = get_dist_info()
        self.size, self.shuffle, self.seed, self.round_up = len(dataset), shuffle, seed or 0, round_up
        self.epoch = self.start = 0

    def __iter__(self):
        """Keys of this process, from the start that was set."""
        order = np.arange(self.size)
        if self.shuffle:
            np.random.default_rng([self.seed, self.epoch]).shuffle(order)
        if self.round_up:
            order = np.resize(order, ceil(self.size / self.world) * self.world)  # begins again where it ends
        start, self.start = self.start, 0
        for index in order[self.rank :: self.world][start:]:
            yield self.epoch, int(index)

    def __len__(self):
        """Keys of this process in a whole epoch."""
        if self.round_up:
            return ceil(self.size / self.world)
        return len(range(self.rank, self.size, self.world))

    def set_epoch(self, epoch):
        """Choose the order of an epoch."""
        self.epoch = epoch

    def set_start(self, start):
        """Leave out so many keys of this process, once."""
        self.start = start


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


class DrawSampler(Sampler):
    """Yield the indices of another sampler as draws, each with its epoch and its place in the run.

    The place is the absolute one, after a resumption too: one that skips samples goes on counting behind them.

    Args:
        sampler: The other sampler, or its config, which is built as MMEngine builds it.
        dataset: Whose indices they are.
        seed: For the config, unless it names one.
    """

    def __init__(self, sampler: dict[str, Any] | Sampler, dataset: Sized, seed: int | None = None) -> None:
        if isinstance(sampler, dict):
            sampler = ALL_SAMPLERS.build(sampler, default_args={'dataset': dataset, 'seed': seed})
        self.sampler = sampler
        self.epoch = self._skipped = self._start = 0
        self._rank, self._world = get_dist_info()
        if hasattr(sampler, 'skip'):
            self.skip = self._skip  # MMEngine's loop takes the fast way only where there is this method

    def __iter__(self) -> Iterator[Draw]:
        """Draw until the other sampler ends."""
        start, self._start = self._start, 0
        for position, index in enumerate(islice(self.sampler, start, None), start + self._skipped):
            yield Draw(self.epoch, index, position * self._world + self._rank)

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
            batch_sampler = ALL_SAMPLERS.build(
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
