"""Shards as LMDB: encoded images by key, of this toolkit and of others."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from mae_toolkit.datasets.image_io import SUFFIXES, BrokenImageError
from mae_toolkit.datasets.path_list import PathList
from mae_toolkit.datasets.shards.index import MOST_NAMES, ShardIndex
from mae_toolkit.datasets.shards.members import LABEL_SUFFIXES, Member, Sample, split_name
from mae_toolkit.errors import UserError
from mae_toolkit.printing import first_line

PAGE = 4096  # bytes in which LMDB gives room


def data_file(path: Path) -> Path:
    """Return the file that holds the data of an LMDB, which is a folder or a single file."""
    return path / 'data.mdb' if path.is_dir() else path


def index_lmdb(path: Path) -> ShardIndex:
    """Make the index of an LMDB in one pass over its keys, in their order; no image is read.

    A key such as ``n01440764/10026.jpg``, with a suffix of an image, is an image, and ``n01440764/10026.cls`` its
    class. A key without a suffix is an image, too. Keys with another suffix, and those that begin with ``__`` or say
    how many there are (``num-samples``, ``length``), are left out.

    Raises:
        UserError: If the file is no LMDB.
    """
    with _open(path).begin(buffers=True) as transaction:
        keys = [bytes(key) for key in transaction.cursor().iternext(values=False)]
        known = frozenset(keys)
        names: list[str] = []
        labels: list[int] = []
        lacking: dict[str, None] = {}
        for key in keys:
            name = key.decode('utf-8', 'surrogateescape')
            stem, suffix = split_name(name)
            if _is_image(name, suffix):
                names.append(name)
                beside = {end: Member(f'{stem}.{end}') for end in LABEL_SUFFIXES if _encode(f'{stem}.{end}') in known}
                labels.append(Sample(stem, beside).read_label(lambda m: bytes(transaction.get(_encode(m.name)))))
            elif suffix in LABEL_SUFFIXES:
                lacking[stem] = None
    for name in names:
        lacking.pop(split_name(name)[0], None)
    zeros = np.zeros(len(names), np.int64)
    examples = tuple(lacking)[:MOST_NAMES]
    return ShardIndex(PathList(names), zeros, zeros, np.array(labels, np.int64), len(lacking), examples)


def write_lmdb(path: Path, members: Sequence[tuple[str, bytes]]) -> None:
    """Write an LMDB as a single file, whole or not at all.

    Args:
        path: The file.
        members: Key and value of each entry.

    Raises:
        UserError: If the package is missing.
    """
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.partial')
    room = sum(len(data) + 2 * PAGE for _, data in members) * 2 + (1 << 24)
    try:
        environment = _import_lmdb(path).open(str(temporary), map_size=room, subdir=False, lock=False)
        with environment, environment.begin(write=True) as writer:
            for name, data in members:
                writer.put(_encode(name), data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


class LmdbShard:
    """An LMDB, which is opened in each process that reads from it.

    Args:
        path: Its folder or file.
        index: Its index.
    """

    def __init__(self, path: Path, index: ShardIndex) -> None:
        self.path, self.index = path, index

    def read(self, number: int) -> bytes:
        """Read the bytes of an image.

        Raises:
            BrokenImageError: If the image is gone.
        """
        name = self.index.names[number]
        with _open(self.path).begin() as transaction:
            data = transaction.get(_encode(name))
        if data is None:
            raise BrokenImageError(name, f'{self.path} has no such key any more')
        return data

    def close(self) -> None:
        """Do nothing: another dataset of this process may read from the same LMDB."""


def _is_image(name: str, suffix: str) -> bool:
    if suffix:
        return f'.{suffix}'.endswith(SUFFIXES)
    return not name.startswith('__') and name not in ('num-samples', 'num_samples', 'length', 'len', 'keys', 'meta')


def _encode(name: str) -> bytes:
    return name.encode('utf-8', 'surrogateescape')


def _import_lmdb(path: Path) -> Any:
    try:
        import lmdb
    except ImportError:
        raise UserError(f'{path} is an LMDB, which needs the package lmdb: pip install mae_toolkit[cluster].') from None
    return lmdb


def _open(path: Path) -> Any:
    """Return the environment of an LMDB in this process.

    LMDB allows one per process: two datasets share it. That of a parent must not be used, and is closed first.

    Raises:
        UserError: If the package is missing, or the file is no LMDB.
    """
    lmdb = _import_lmdb(path)
    known, real = _environments(), os.path.realpath(path)
    if real in known:
        process, environment = known[real]
        if process == os.getpid():
            return environment
        environment.close()
    try:
        environment = lmdb.open(
            str(path), subdir=path.is_dir(), readonly=True, lock=False, readahead=False, meminit=False, create=False
        )
    except lmdb.Error as error:
        raise UserError(f'{path} cannot be opened as an LMDB ({first_line(error)}): is it whole?') from None
    needed = (environment.info()['last_pgno'] + 1) * environment.stat()['psize']
    if (size := data_file(path).stat().st_size) < needed:  # reading beyond its end would kill the process
        environment.close()
        raise UserError(
            f'{path} is truncated: it has {size} bytes, and its pages take {needed}; copy it again, or write it anew '
            'with mdb_copy -c.'
        )
    known[real] = os.getpid(), environment
    return environment


@cache
def _environments() -> dict[str, tuple[int, Any]]:
    """Return the environments that are open, with the process that opened each."""
    return {}
