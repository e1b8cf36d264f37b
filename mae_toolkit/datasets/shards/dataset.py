"""Images in shards: tars and LMDBs, on this machine or another one."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from mae_toolkit.datasets.image_io import BrokenImageError, ImageFile, open_image_bytes
from mae_toolkit.datasets.image_limits import MAX_BYTES, MAX_PIXELS
from mae_toolkit.datasets.item_arguments import check_hold_out
from mae_toolkit.datasets.pipeline_dataset import PipelineDataset
from mae_toolkit.datasets.shards.collection import ShardCollection
from mae_toolkit.datasets.shards.held_out import count_kept, find_kept
from mae_toolkit.datasets.shards.lmdb_shard import LmdbShard
from mae_toolkit.datasets.shards.tar_shard import TarShard
from mae_toolkit.datasets.transforms import Transform
from mae_toolkit.errors import UserError
from mae_toolkit.printing import format_count
from mae_toolkit.registry import DATASETS

MOST_OPEN = 128  # shards that a process keeps open
MOST_TRIES = 5  # to open a shard that vanishes from the cache


@DATASETS.register_module()
class ShardDataset(PipelineDataset):
    """Images in shards, each of which can be read by its number, so that orders and resumptions are those of folders.

    Shards are tars as WebDataset writes them (``KEY.jpg`` beside ``KEY.cls`` or others, in any order of keys), and
    LMDBs of encoded images by key. An item depends on the seed, the epoch and the index alone, as those of
    :class:`ImageDataset` do. Use it with :class:`ShardSampler`, which keeps to few shards at a time.

    Where the images of a shard lie is read from its headers once, and kept in ``SHARD.index.npz`` beside it, or in the
    cache where that is not writable. Shards of other machines are copied whole into the cache. Their lengths come
    from the ``_info.json`` beside them; without one, all are copied before the run starts.

    Args:
        urls: The shards; see :func:`~mae_toolkit.datasets.shards.listing.list_shards`.
        pipeline: Transforms or their configs, in order.
        split: Split of ``_info.json`` whose shards are read.
        labels: Give the class index of each image, from its ``.cls`` or the ``label`` in its ``.json``, as ``label``.
        classes: Names of the classes; by default their numbers, from 0 to the greatest. Only with ``labels``.
        cache: ``folder`` and ``limit`` of the copies; see :class:`~mae_toolkit.datasets.shards.cache.ShardCache`.
        source: How other machines are read; see :class:`~mae_toolkit.datasets.shards.sources.SourceOptions`.
        hold_out: Leave out every n-th image for validation, the first one included; -n takes only those.
        channels: Number of channels of the images; see :class:`PipelineDataset`, also for the others.
        repeat: Number of passes over the images in an epoch.
        seed: Seed of the random numbers.
        max_tries: Maximum number of images that are tried in place of a broken one.
        max_pixels: Pixels of the largest image that is decoded.
        max_bytes: Bytes of the largest image, encoded or decoded.

    Attributes:
        shards: The shards.
        shard_lengths: (number of shards,) images of each, without those held out.
        has_labels: Whether items have a label.
        metainfo: ``{'classes': [...]}`` with ``labels``.
        root: What the shards are called in messages.

    Raises:
        UserError: If there are no such shards, they cannot be read, or they hold no images.
        SourceError: If another machine does not answer.
    """

    def __init__(
        self,
        urls: str | Path | Sequence[str | Path],
        pipeline: Sequence[dict | Transform] = (),
        split: str | None = None,
        labels: bool = False,
        classes: Sequence[str] | None = None,
        cache: Mapping[str, Any] | None = None,
        source: Mapping[str, Any] | None = None,
        hold_out: int | None = None,
        channels: int = 3,
        repeat: int = 1,
        seed: int = 0,
        max_tries: int = 20,
        max_pixels: int = MAX_PIXELS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        super().__init__(pipeline, channels, repeat, seed, max_tries, max_pixels, max_bytes)
        check_hold_out(hold_out)
        self._collection = ShardCollection(urls, split, cache, source)
        self.shards, self._hold_out = self._collection.shards, hold_out
        lengths = self._collection.read_lengths()
        self._whole_firsts = np.cumsum(lengths) - lengths
        kept = [count_kept(first, length, hold_out) for first, length in zip(self._whole_firsts, lengths, strict=True)]
        self.shard_lengths = np.array(kept, np.int64)
        self._ends = np.cumsum(self.shard_lengths)
        if not self.count_images():
            held_out = f', and hold_out={hold_out} leaves none of them' if lengths.sum() else ''
            raise UserError(
                f'{self._collection.describe()} have {format_count(int(lengths.sum()), "image")}{held_out}: name '
                'shards with images.'
            )
        self._open: OrderedDict[int, TarShard | LmdbShard] = OrderedDict()
        self._process, self.has_labels, self.root = os.getpid(), labels, self._collection.describe()
        self.metainfo = {'classes': self._collection.list_classes(classes)} if labels else {}

    def count_images(self) -> int:
        """Return the number of images, each counted once."""
        return int(self._ends[-1])

    def find_shards(self, indices: np.ndarray) -> np.ndarray:
        """Return the numbers of the shards in which the images of indices lie."""
        return np.searchsorted(self._ends, np.asarray(indices) % self.count_images(), side='right')

    def name_image(self, position: int) -> str:
        """Return shard and key of an image, such as ``train-0000.tar/n01440764/10026.jpg``."""
        shard, number = self._locate(position)
        index = self._collection.get_index(shard)
        name = index.names[number] if index is not None and number < len(index) else f'#{number}'
        return f'{self.shards[shard].name}/{name}'

    def open(self, position: int) -> ImageFile:
        """Open an image; see :meth:`PipelineDataset.open`.

        Raises:
            BrokenImageError: If the image is broken, or its shard is shorter than was promised.
            SourceError: If its shard is on another machine, which does not answer.
        """
        shard, number = self._locate(position)
        opened = self._open_shard(shard)
        if number >= len(opened.index):
            promised = int(self._collection.read_lengths()[shard])
            reason = f'{self.shards[shard].url} has {len(opened.index):,} images, and {promised:,} are promised'
            raise BrokenImageError(self.name_image(position), reason)
        return open_image_bytes(self.name_image(position), opened.read(number), self.limits)

    def describe_place(self) -> str:
        """Return where the images are, for errors."""
        return f'{self._collection.describe()} whole'

    def prefetch(self, shard: int) -> None:
        """Copy a shard into the cache, unless another process does so; what goes wrong is left to who needs it."""
        self._collection.prefetch(shard)

    def check_room(self, shards: int) -> None:
        """Refuse a cache that cannot hold a number of shards."""
        self._collection.check_room(shards)

    def take_notes(self) -> list[str]:
        """Return the sentences for the log that have come up in this process since the last call."""
        return self._collection.take_notes()

    def __getitem__(self, key: tuple[int, int] | int) -> dict[str, Any]:
        """Load an image; see :meth:`PipelineDataset.__getitem__`. ``notes`` has sentences for the log, if any."""
        item = super().__getitem__(key)
        notes = self.take_notes()
        return item | {'notes': notes} if notes else item

    def __getstate__(self) -> dict[str, Any]:
        """Leave out open files, which another process opens itself."""
        return vars(self) | {'_open': OrderedDict()}

    def _extra_fields(self, position: int) -> dict[str, Any]:
        """Return the label of an image."""
        if not self.has_labels:
            return {}
        shard, number = self._locate(position)
        index = self._open_shard(shard).index
        label = int(index.labels[number])
        if not 0 <= label < len(self.metainfo['classes']):
            found = f'is of class {label}' if label >= 0 else 'has no class'
            raise UserError(
                f'{self.name_image(position)} {found}, and there are {len(self.metainfo["classes"])} classes: give '
                'each image a .cls, or a .json with label.'
            )
        return {'label': label}

    def _locate(self, position: int) -> tuple[int, int]:
        """Return the shard of an image, and its number within the shard."""
        shard = int(np.searchsorted(self._ends, position, side='right'))
        number = position - int(self._ends[shard] - self.shard_lengths[shard])
        return shard, find_kept(int(self._whole_firsts[shard]), number, self._hold_out)

    def _bring(self, shard: int) -> TarShard | LmdbShard:
        """Open a shard, which another process may have removed from the cache since it was found there."""
        for _ in range(MOST_TRIES):
            path, index = self._collection.bring(shard)
            with suppress(FileNotFoundError):
                return (LmdbShard if self.shards[shard].is_lmdb else TarShard)(path, index)
        raise UserError(
            f'{self.shards[shard].url} vanishes from the cache before it can be read: raise cache=dict(limit=...).'
        )

    def _open_shard(self, shard: int) -> TarShard | LmdbShard:
        """Return an open shard of this process; those used least lately are closed."""
        if self._process != os.getpid():  # forked: the parent's places in its files are its own
            self._open, self._process = OrderedDict(), os.getpid()
        if shard in self._open:
            self._open.move_to_end(shard)
            return self._open[shard]
        opened = self._open[shard] = self._bring(shard)
        while len(self._open) > MOST_OPEN:
            self._open.popitem(last=False)[1].close()
        return opened
