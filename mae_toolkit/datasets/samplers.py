"""In which order images come."""

from math import ceil

import numpy as np
from mmengine.dist import get_dist_info
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
