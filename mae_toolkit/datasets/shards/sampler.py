"""The order of images in shards: shuffled, and yet few shards at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import ceil
from typing import Any

import numpy as np

from mae_toolkit.datasets.item_arguments import check_integer
from mae_toolkit.datasets.samplers import EpochSampler
from mae_toolkit.datasets.shards.prefetch import Prefetcher, list_first_uses
from mae_toolkit.errors import UserError
from mae_toolkit.protocols import HasShards
from mae_toolkit.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class ShardSampler(EpochSampler):
    """Sampler of keys (epoch, index) of images in shards, in an order that keeps each process to few shards at a time.

    The order depends on the seed, the epoch, the shards and the arguments alone, and not on processes or workers, see
    :func:`shuffle_shards`. The image at position i of the order belongs to stream i mod ``streams``, and process r of n
    takes the positions r, r + n, r + 2 n, ..., as with :class:`EpochSampler`. Where n divides ``streams``, a process
    thus reads the shards of its own streams alone. A run may begin at any position, also with another number of
    processes or workers, as long as a step has the same number of images: the rest of the epoch is the same.

    Shards of other machines are downloaded ahead of their first use by a thread of this process.

    Args:
        dataset: The dataset, which has ``shard_lengths``, as :class:`ShardDataset` has.
        shuffle: Shuffle; otherwise the order is that of the shards.
        seed: Seed of the order. None means 0.
        round_up: Give all processes the same number of images, by repeating some of them.
        streams: Number of streams: at best a multiple of the number of processes. Another number is another order.
        window: Number of shards among which a stream shuffles.
        ahead: Number of shards that are downloaded before they are needed.

    Raises:
        UserError: If the dataset has no shards, or an argument is out of range.
    """

    def __init__(
        self,
        dataset: Any,
        shuffle: bool = True,
        seed: int | None = 0,
        round_up: bool = True,
        streams: int = 64,
        window: int = 2,
        ahead: int = 4,
    ) -> None:
        if not isinstance(dataset, HasShards):
            raise UserError(f'ShardSampler orders shards, and a {type(dataset).__name__} has none: use EpochSampler.')
        super().__init__(dataset, shuffle, seed, round_up)  # type: ignore[arg-type]  # it has a length, too
        check_integer('streams', streams, 1, 'how many shards, or parts of one, are read side by side')
        check_integer('window', window, 1, 'how many shards a stream shuffles among')
        check_integer('ahead', ahead, 0, 'how many shards are downloaded before they are needed')
        self.streams, self.window, self.ahead, self._dataset = streams, window, ahead, dataset

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield the keys of this process, from the start that was set, while further shards are downloaded."""
        indices = self.list_indices()
        if not any(shard.is_remote for shard in self._dataset.shards):
            yield from ((self.epoch, int(index)) for index in indices)
            return
        self._check_room()
        prefetcher = Prefetcher(self._dataset, list_first_uses(self._dataset, indices), self.ahead)
        try:
            for place, index in enumerate(indices):
                prefetcher.place = place
                yield self.epoch, int(index)
        finally:
            prefetcher.stop()

    def _check_room(self) -> None:
        """Refuse a cache that is too small for the shards that the processes of this machine use at a time."""
        here = min(self.world_size, int(os.environ.get('LOCAL_WORLD_SIZE', 1)))
        streams = ceil(self.streams / self.world_size) if self.streams % self.world_size == 0 else self.streams
        needed = here * (streams * (self.window + 1) + self.ahead)
        self._dataset.check_room(min(needed, len(self._dataset.shards)))

    def make_order(self) -> np.ndarray:
        """Return the order of the whole epoch; that of each repetition within it is another one."""
        lengths = self._dataset.shard_lengths
        images = int(sum(lengths))
        if not self.shuffle:
            return np.arange(self.size)
        seeds = [self.seed, self.epoch]
        passes = [shuffle_shards(lengths, [*seeds, k], self.streams, self.window) for k in range(self.size // images)]
        return np.concatenate([order + k * images for k, order in enumerate(passes)])


def shuffle_shards(lengths: Sequence[int] | np.ndarray, seeds: Sequence[int], streams: int, window: int) -> np.ndarray:
    """Shuffle the images of shards so that few shards are in use at a time.

    With N images and S streams, of one generator of the seeds:

    1. The order of the shards is shuffled, and their images are laid in a line, shard after shard.
    2. The line is cut into S streams of equal length; the first N mod S have one image more.
    3. Each stream is cut into blocks of as many images as ``window`` shards have on average. The first block of stream
       s has only the share (s + 1) / S of that, so that the streams come to new shards at different times.
    4. Each block is shuffled.
    5. Position i of the order is the image i // S of stream i mod S.

    A stream thus has at most ``window`` + 1 shards in use where all are of one length.

    Args:
        lengths: Number of images of each shard.
        seeds: Seeds of the generator.
        streams: S.
        window: Shards per block.

    Returns:
        (N,) every image once, by its number over all shards.
    """
    rng = np.random.default_rng(seeds)
    counts = np.asarray(lengths, np.int64)
    firsts = np.cumsum(counts) - counts
    line = np.concatenate([np.arange(firsts[k], firsts[k] + counts[k]) for k in rng.permutation(len(counts))])
    block = max(1, ceil(window * len(line) / max(1, int(np.count_nonzero(counts)))))
    order, begin = np.empty_like(line), 0
    for stream in range(min(streams, len(line))):
        end = begin + len(range(stream, len(line), streams))
        cuts = [begin, *range(begin + ceil(block * (stream + 1) / streams), end, block), end]
        for first, last in pairwise(cuts):
            rng.shuffle(line[first:last])
        order[stream::streams] = line[begin:end]
        begin = end
    return order
