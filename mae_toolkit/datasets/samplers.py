"""The order of images in an epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from math import ceil

import numpy as np
from mmengine.dist import get_dist_info
from torch.utils.data import Sampler

from mae_toolkit.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class EpochSampler(Sampler):
    """Sampler of keys (epoch, index) in an order that depends on the seed and the epoch alone.

    The processes take turns: n processes with batches of b see in each step the same images as one process with
    batches of n * b. For example, of the order 5, 2, 7, 0, process 0 of 2 gets 5 and 7. A run may begin within an
    epoch, see :meth:`set_start`.

    Args:
        dataset: The dataset to sample from.
        shuffle: Shuffle the images, differently in each epoch.
        seed: Seed of the order. None means 0.
        round_up: Give all processes the same number of images, by repeating some of them.
    """

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int | None = 0, round_up: bool = True) -> None:
        self.rank, self.world_size = get_dist_info()
        self.size, self.shuffle, self.seed, self.round_up = len(dataset), shuffle, seed or 0, round_up
        self.epoch = self.start = 0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield the keys of this process, from the start that was set."""
        for index in self.list_indices():
            yield self.epoch, int(index)

    def list_indices(self) -> np.ndarray:
        """Return the indices of this process from the start that was set, which counts once."""
        order = self.make_order()
        if self.round_up:
            order = np.resize(order, ceil(self.size / self.world_size) * self.world_size)  # begins again at its end
        start, self.start = self.start, 0
        return order[self.rank :: self.world_size][start:]

    def make_order(self) -> np.ndarray:
        """Return the order of the whole epoch (N,), which all processes share."""
        order = np.arange(self.size)
        if self.shuffle:
            np.random.default_rng([self.seed, self.epoch]).shuffle(order)
        return order

    def __len__(self) -> int:
        """Return the number of keys of this process in a whole epoch."""
        if self.round_up:
            return ceil(self.size / self.world_size)
        return len(range(self.rank, self.size, self.world_size))

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, from which the order follows."""
        self.epoch = epoch

    def set_start(self, start: int) -> None:
        """Leave out the first keys of this process in the next iteration only."""
        self.start = start
