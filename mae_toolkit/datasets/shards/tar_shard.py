"""Shards as tar archives, such as those of WebDataset, whose images are read where they lie."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from mae_toolkit.datasets.image_io import BrokenImageError
from mae_toolkit.datasets.shards.index import ShardIndex, make_index
from mae_toolkit.datasets.shards.members import Member, group_members
from mae_toolkit.errors import UserError
from mae_toolkit.printing import first_line

BLOCK = 512  # bytes of which a tar consists
COMPRESSED = {b'\x1f\x8b': 'gzip', b'BZ': 'bzip2', b'\xfd7': 'xz', b'(\xb5': 'zstd'}


def index_tar(path: Path) -> ShardIndex:
    """Make the index of a tar in one pass over the headers of its members.

    What follows a damaged place is lost, and ``damage`` of the index says so; what lies before it is used.

    Raises:
        UserError: If the file is compressed or no tar at all.
    """
    with open(path, 'rb') as file:
        _check_kind(path, file)
        walk = _Walk(file)
        return make_index(group_members(walk), walk.read, lambda: walk.damage)


class TarShard:
    """An open tar.

    Args:
        path: The file.
        index: Its index.
    """

    def __init__(self, path: Path, index: ShardIndex) -> None:
        self.path, self.index = path, index
        self._file = open(path, 'rb', buffering=0)  # noqa: SIM115 - closed by close

    def read(self, number: int) -> bytes:
        """Read the bytes of an image.

        Raises:
            BrokenImageError: If the file ends before the image does.
        """
        offset, size = int(self.index.offsets[number]), int(self.index.sizes[number])
        data = _read_at(self._file.fileno(), size, offset)
        if len(data) < size:
            raise BrokenImageError(self.index.names[number], f'{self.path} ends after {len(data)} of its {size} bytes')
        return data

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class _Walk:
    """Iterator over the members of a tar, which ends at damage and says then what it is."""

    def __init__(self, file: BinaryIO) -> None:
        self.damage = ''
        self._file, self._size = file, os.fstat(file.fileno()).st_size

    def __iter__(self) -> Iterator[Member]:
        end, name = 0, ''
        try:
            with tarfile.open(fileobj=self._file, mode='r:') as tar:
                while (info := tar.next()) is not None:
                    name, end = info.name, info.offset_data + info.size
                    if info.size < 0:  # which base-256 numbers can say
                        self.damage = f'is damaged at its member {name}: what followed is lost'
                        return
                    if info.isreg() and end <= self._size:
                        yield Member(name, info.offset_data, info.size)
                    if end > self._size:
                        self.damage = f'ends within its member {name}: what followed is lost'
                        return
                    tar.members = []  # type: ignore[attr-defined]  # which would keep all that was read
        except tarfile.TarError as error:
            self.damage = f'is damaged after its member {name} ({first_line(error)}): what followed is lost'
            return
        following = _read_at(self._file.fileno(), BLOCK, -(-end // BLOCK) * BLOCK)
        if not following:
            self.damage = f'was cut after its member {name}, as it has no end mark: more may be lost'
        elif following != bytes(BLOCK):
            self.damage = f'is damaged after its member {name}: what followed is lost'

    def read(self, member: Member) -> bytes:
        """Read a member, without moving the file that is iterated over."""
        return _read_at(self._file.fileno(), member.size, member.offset)


def _read_at(descriptor: int, size: int, offset: int) -> bytes:
    """Read bytes of a file at a place, fewer only at its end."""
    data = os.pread(descriptor, size, offset)
    while len(data) < size and (more := os.pread(descriptor, size - len(data), offset + len(data))):
        data += more
    return data


def _check_kind(path: Path, file: BinaryIO) -> None:
    start = file.read(BLOCK)
    for signature, name in COMPRESSED.items():
        if start.startswith(signature):
            raise UserError(f'{path} is compressed ({name}), so no image in it can be found: unpack it to a plain tar.')
    if not start:
        raise UserError(f'{path} is empty: remove it, or write it again.')
    if start != bytes(BLOCK):  # with which a tar without members begins
        try:
            tarfile.TarInfo.frombuf(start, 'utf-8', 'surrogateescape')
        except tarfile.HeaderError as error:
            reason = first_line(error)
            raise UserError(f'{path} is no tar ({reason}): name shards that end in .tar or .lmdb.') from None
    file.seek(0)
