"""The shards of a dataset: their indexes, their copies on this machine, and what is to be said of them."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from mmengine.dist import get_dist_info
from mmengine.logging import print_log
from tqdm import tqdm

from mae_toolkit.datasets.shards.cache import Fetched, ShardCache
from mae_toolkit.datasets.shards.index import ShardIndex, find_index
from mae_toolkit.datasets.shards.listing import Shard, list_shards
from mae_toolkit.datasets.shards.lmdb_shard import data_file, index_lmdb
from mae_toolkit.datasets.shards.sources import Source, SourceError, SourceOptions
from mae_toolkit.datasets.shards.tar_shard import index_tar
from mae_toolkit.errors import UserError
from mae_toolkit.printing import format_count, some
from mae_toolkit.registry import refuse_unknown

T = TypeVar('T')
LONG_WAIT = 10.0  # seconds for a shard after which the log names it


class ShardCollection:
    """The shards of a dataset.

    Args:
        urls: See :func:`~mae_toolkit.datasets.shards.listing.list_shards`.
        split: See there.
        cache: Arguments of :class:`~mae_toolkit.datasets.shards.cache.ShardCache`.
        source: How other machines are read: arguments of :class:`~mae_toolkit.datasets.shards.sources.SourceOptions`.

    Attributes:
        shards: The shards, in order.

    Raises:
        UserError: If there are no such shards, no permission to read them, or no such arguments.
        SourceError: If another machine does not answer.
    """

    def __init__(
        self,
        urls: str | Path | Sequence[str | Path],
        split: str | None,
        cache: Mapping[str, Any] | None,
        source: Mapping[str, Any] | None,
    ) -> None:
        self.cache = _build_from(cache, ShardCache, "cache=dict(folder='/scratch/shards', limit='300GB')")
        self.options = _build_from(source, SourceOptions, 'source=dict(timeout=60, retries=6)')
        self.shards = list_shards(urls, split, self._read_small)
        self._indexes: dict[int, ShardIndex] = {}
        self._lengths: np.ndarray | None = None
        self._notes: list[str] = []
        self._check_access()

    def describe(self) -> str:
        """Name the shards: ``'the 2 shards a.tar, b.tar'``."""
        return f'the {format_count(len(self.shards), "shard")} {some([shard.url for shard in self.shards], 2)}'

    def read_lengths(self, warn: bool = True) -> np.ndarray:
        """Return the number of images of each shard; shards of unknown length are read for that.

        Args:
            warn: Log what is wrong with the shards that are read; otherwise it stays among the notes.
        """
        if self._lengths is None:
            unknown = [i for i, shard in enumerate(self.shards) if not shard.is_remote or shard.length is None]
            rank, world = get_dist_info()
            begin = rank * len(unknown) // world  # each process begins elsewhere, and finds the work of the others
            for shard in tqdm(unknown[begin:] + unknown[:begin], 'reading the headers of shards', delay=2):
                self.bring(shard)
            pairs = enumerate(self.shards)
            lengths = [len(self._indexes[i]) if i in self._indexes else shard.length for i, shard in pairs]
            self._lengths = np.array(lengths, np.int64)
            if warn:
                self._warn_of_damage()
        return self._lengths

    def get_index(self, shard: int) -> ShardIndex | None:
        """Return the index of a shard; None if it has not been read."""
        return self._indexes.get(shard)

    def list_classes(self, classes: Sequence[str] | None) -> list[str]:
        """Return the names of the classes, by default the numbers up to the greatest in the shards.

        Raises:
            UserError: If the shards are not here, so that nobody knows the greatest.
        """
        if classes is not None:
            return list(classes)
        if len(self._indexes) < len(self.shards):
            raise UserError(
                f'The classes of {self.describe()} are not known before they are read: name them by classes=[...].'
            )
        greatest = max((int(index.labels.max()) for index in self._indexes.values() if len(index)), default=-1)
        if greatest < 1:
            raise UserError(f'{self.describe()} have no classes: labels=True needs .cls, or .json with label.')
        return [str(number) for number in range(greatest + 1)]

    def bring(self, shard: int) -> tuple[Path, ShardIndex]:
        """Return a shard on this machine, and its index.

        Raises:
            UserError: If it cannot be read.
            SourceError: If another machine does not answer.
        """
        known = self.shards[shard]
        if known.is_remote:
            fetched = self.cache.fetch(self._source(known))
            assert fetched is not None
            self._note(known, fetched)
            path = fetched.path
        else:
            path = Path(known.url)
        if shard not in self._indexes or known.is_remote:  # whose copy may be another one by now
            stamped, build = (data_file(path), index_lmdb) if known.is_lmdb else (path, index_tar)
            self._indexes[shard] = find_index(path, stamped, self.cache.folder, lambda: build(path))
            self._note_damage(known, self._indexes[shard])
        return path, self._indexes[shard]

    def prefetch(self, shard: int) -> None:
        """Copy a shard into the cache unless another process does, or it is here; a failure becomes a note."""
        if not self.shards[shard].is_remote:
            return
        try:
            fetched = self.cache.fetch(self._source(self.shards[shard]), wait=False, check=True)
        except (SourceError, UserError, OSError) as error:
            self._notes.append(f'A shard could not be downloaded ahead: {error}')
            return
        if fetched is not None and fetched.download is not None and fetched.download.failures:
            self._notes.append(f'A source fails at times: {fetched.download}')

    def check_room(self, shards: int) -> None:
        """Refuse a limit of the cache below what a number of shards takes, as each would be downloaded again and again.

        Raises:
            UserError: With both numbers.
        """
        first = next((shard for shard in self.shards if shard.is_remote), None)
        if first is None or self.cache.limit is None:
            return
        taken = (self._source(first).stat()['size'] or 0) * shards
        if taken > self.cache.limit:
            raise UserError(
                f'{shards} shards as large as {first.name} are in use at a time on this machine, {taken / 1e9:.3g} GB, '
                f'and the cache has a limit of {self.cache.limit / 1e9:.3g} GB: raise cache=dict(limit=...), or give '
                'ShardSampler a smaller window or fewer streams.'
            )

    def take_notes(self) -> list[str]:
        """Return the notes of this process since the last call."""
        notes, self._notes = self._notes, []
        return notes

    def _source(self, shard: Shard) -> Source:
        return Source(shard.url, self.options)

    def _read_small(self, url: str) -> bytes | None:
        if '://' in url:
            return Source(url, self.options).read()
        return Path(url).read_bytes() if os.path.isfile(url) else None

    def _check_access(self) -> None:
        """Refuse shards that may not be read, before anything starts: all of this machine, and one of each other."""
        far = [shard.url for shard in self.shards if shard.is_remote and shard.is_lmdb]
        if far:
            raise UserError(f'{some(far, 1)} is an LMDB, which can only be read on this machine: copy it here.')
        hosts = {shard.url.rpartition('/')[0]: shard for shard in self.shards if shard.is_remote}
        for shard in hosts.values():
            if not self.cache.find(self._source(shard)):
                self._source(shard).check_permission()
        here = [shard.url for shard in self.shards if not shard.is_remote]
        missing = [url for url in here if not os.path.isfile(url) and not os.path.isdir(url)]
        if missing:
            raise UserError(
                f'There is no file of {format_count(len(missing), "shard")} of {len(self.shards)} '
                f'({some(missing, 2)}): copy what is missing, or name those that are there.'
            )
        closed = [url for url in here if not os.access(url, os.R_OK)]
        if closed:
            raise UserError(
                f'There is no permission to read {format_count(len(closed), "shard")} of {len(self.shards)} '
                f'({some(closed, 2)}): make them readable.'
            )

    def _note(self, shard: Shard, fetched: Fetched) -> None:
        """Note a source that kept this process waiting, or failed."""
        if fetched.download is not None and fetched.download.failures:
            self._notes.append(f'A source fails at times: {fetched.download}')
        elif fetched.waited > LONG_WAIT:
            more = f'; {fetched.download}' if fetched.download else ''
            self._notes.append(f'A source is slow: training waited {fetched.waited:.0f} s for {shard.url}{more}')

    def _note_damage(self, shard: Shard, index: ShardIndex) -> None:
        if index.damage:
            self._notes.append(f'The shard {shard.url} {index.damage}; {format_count(len(index), "image")} are used.')
        if index.without_image:
            count = format_count(index.without_image, 'sample')
            self._notes.append(f'The shard {shard.url} has {count} without an image ({some(index.examples)}).')
        if shard.length is not None and shard.length != len(index):
            self._notes.append(
                f'The shard {shard.url} has {format_count(len(index), "image")}, and its _info.json promises '
                f'{shard.length:,}.'
            )

    def _warn_of_damage(self) -> None:
        """Say at the start what is wrong with the shards that were read."""
        for note in self.take_notes():
            print_log(note, 'current', logging.WARNING)


def _build_from(given: Mapping[str, Any] | None, cls: type[T], example: str) -> T:
    """Build an object of the settings in a config.

    Raises:
        UserError: If they are no dict, or the class has no such argument.
    """
    if not isinstance(given, Mapping | None):
        raise UserError(f'{example.partition("=")[0]}={given!r} of a ShardDataset must be a dict: write {example}.')
    refuse_unknown(cls, given or {})
    return cls(**(given or {}))
