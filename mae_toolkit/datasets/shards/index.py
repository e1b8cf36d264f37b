"""The index of a shard: which images it holds, and where."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mae_toolkit.datasets.path_list import PathList
from mae_toolkit.datasets.shards.members import Member, Sample
from mae_toolkit.errors import UserError
from mae_toolkit.files import atomic_write

SUFFIX = '.index.npz'
VERSION = 1
MOST_NAMES = 3  # of samples without an image that are kept


@dataclass(frozen=True, eq=False)
class ShardIndex:
    """The images of a shard, in the order of their members.

    Attributes:
        names: Names of the members that hold the images.
        offsets: (N,) bytes at which they begin; zero in LMDB, which is read by key.
        sizes: (N,) numbers of their bytes; zero in LMDB.
        labels: (N,) class indices, -1 without one.
        without_image: Number of samples that hold no image.
        examples: Keys of the first of them.
        damage: What is wrong with the shard as a whole, as a clause that follows its name; empty if nothing is.
    """

    names: PathList
    offsets: np.ndarray
    sizes: np.ndarray
    labels: np.ndarray
    without_image: int = 0
    examples: tuple[str, ...] = ()
    damage: str = ''

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.offsets)


def make_index(samples: Iterable[Sample], read: Callable[[Member], bytes], damage: Callable[[], str]) -> ShardIndex:
    """Make the index of a shard in one pass over its samples.

    Args:
        samples: The samples.
        read: Function that reads a member.
        damage: Function that says, after the pass, what is wrong with the shard.
    """
    names, rows, lacking = [], [], []
    for sample in samples:
        if (image := sample.image) is None:
            lacking.append(sample.key)
            continue
        names.append(image.name)
        rows.append((image.offset, image.size, sample.read_label(read)))
    table = np.array(rows, np.int64).reshape(-1, 3)
    offsets, sizes, labels = (np.ascontiguousarray(column) for column in table.T)
    return ShardIndex(PathList(names), offsets, sizes, labels, len(lacking), tuple(lacking[:MOST_NAMES]), damage())


def stamp_file(path: str | Path) -> dict[str, int]:
    """Return size and time of a file, by which a changed one is recognized."""
    status = os.stat(path)
    return {'version': VERSION, 'size': status.st_size, 'mtime': status.st_mtime_ns}


def find_index(shard: Path, stamped: Path, cache: Path, build: Callable[[], ShardIndex]) -> ShardIndex:
    """Read the index of a shard, or make and keep it: beside the shard, or in a cache folder if that is not writable.

    Args:
        shard: The shard.
        stamped: The file whose size and time the index is valid for; the shard itself, unless that is a folder.
        cache: The cache folder; it is made when it is needed.
        build: Function that makes the index.
    """
    stamp = stamp_file(stamped)
    name = hashlib.sha256(str(shard.resolve()).encode('utf-8', 'surrogateescape')).hexdigest()[:16]
    places = [shard.with_name(shard.name + SUFFIX), cache / f'{name}{SUFFIX}']
    for place in places:
        if (found := read_index(place, stamp)) is not None:
            return found
    index = build()
    if stamp_file(stamped) != stamp:
        raise UserError(f'{shard} changed while it was read: wait until it is written, and start again.')
    for place in places:
        try:
            write_index(place, index, stamp)
            break
        except OSError:  # no right to write, or a full disk: it will be made again the next time
            continue
    return index


def write_index(path: Path, index: ShardIndex, stamp: dict[str, int]) -> None:
    """Write an index, whole or not at all.

    Args:
        path: The file.
        index: The index.
        stamp: What :func:`stamp_file` says of the shard.
    """
    about = stamp | {'without_image': index.without_image, 'examples': index.examples, 'damage': index.damage}
    content: dict[str, Any] = {
        'names': index.names.bytes,
        'ends': index.names.ends,
        'table': np.stack([index.offsets, index.sizes, index.labels]),
        'about': np.frombuffer(json.dumps(about).encode(), np.uint8),
    }
    atomic_write(path, lambda file: np.savez(file, **content))


def read_index(path: Path, stamp: dict[str, int]) -> ShardIndex | None:
    """Read an index; None if there is none, it is damaged, or it is that of another version of the shard.

    Args:
        path: The file.
        stamp: What :func:`stamp_file` says of the shard now.
    """
    try:
        with np.load(path) as content:
            about = json.loads(content['about'].tobytes())
            if any(about.get(key) != value for key, value in stamp.items()):
                return None
            offsets, sizes, labels = content['table']
            names = PathList.from_arrays(content['names'], content['ends'])
        lacking, examples, damage = about['without_image'], tuple(about['examples']), about['damage']
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return ShardIndex(names, offsets, sizes, labels, lacking, examples, damage)
