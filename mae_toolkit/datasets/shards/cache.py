"""A folder of this machine with copies of shards of other machines, up to a limit."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from mae_toolkit.datasets.shards.index import SUFFIX
from mae_toolkit.datasets.shards.sources import Download, Source
from mae_toolkit.errors import UserError
from mae_toolkit.files import atomic_write

UNITS = {'': 1, 'KB': 10**3, 'MB': 10**6, 'GB': 10**9, 'TB': 10**12}
UNITS |= {'KIB': 1 << 10, 'MIB': 1 << 20, 'GIB': 1 << 30, 'TIB': 1 << 40}
ABANDONED = 3600  # seconds after which a partial download is that of a process that was killed
ABOUT = '.about.json'


def parse_size(text: int | str) -> int:
    """Convert ``'512MB'``, ``'1.5 GB'`` (powers of ten), ``'2GiB'`` (powers of two) or a number to bytes.

    Raises:
        UserError: If it is no size.
    """
    match = re.fullmatch(r'\s*(\d+(?:\.\d+)?)\s*([KMGT]I?B)?\s*', str(text).upper())
    if isinstance(text, bool) or match is None or float(match[1]) <= 0:
        raise UserError(f'{text!r} is no size: write 512MB, 1.5GB or 2GiB.')
    return int(float(match[1]) * UNITS[match[2] or ''])


def default_folder() -> Path:
    """Return the folder for copies and indexes where none is named: in ``$XDG_CACHE_HOME``, or ``~/.cache``."""
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'mae_toolkit' / 'shards'


@dataclass(frozen=True)
class Fetched:
    """A local copy of a source.

    Attributes:
        path: The copy.
        download: What is known of its download, if this process has just made it.
        waited: Seconds that the caller waited for the copy.
    """

    path: Path
    download: Download | None
    waited: float


class ShardCache:
    """Copies of sources, which all processes of a machine share.

    A source is downloaded by one process while the others wait for it, and a copy has its name only when it is whole.
    Beyond the limit, the copies that were not used for the longest time are removed; a process that still reads one
    keeps it until it closes it.

    Args:
        folder: The folder; of this machine, as a cluster's file system would be no faster than the source.
        limit: Bytes, or text such as ``'200GB'``, that the copies may take; None for as much as the disk has.
    """

    def __init__(self, folder: str | Path | None = None, limit: int | str | None = None) -> None:
        self.folder = Path(folder) if folder else default_folder()
        self.limit = None if limit is None else parse_size(limit)

    def find(self, source: Source) -> Path | None:
        """Return the copy of a source, if there is one, and note that it is used."""
        path = self.locate(source)
        if not path.is_file():
            return None
        with suppress(OSError):
            os.utime(self._about(path))  # not the copy, whose own time its index is valid for
        return path

    def locate(self, source: Source) -> Path:
        """Return where the copy of a source is, or would be."""
        name = source.url.rstrip('/').rpartition('/')[2]
        return self.folder / f'{hashlib.sha256(source.url.encode()).hexdigest()[:16]}-{name[-100:]}'

    def fetch(self, source: Source, wait: bool = True, check: bool = False) -> Fetched | None:
        """Return the copy of a source, which is downloaded if there is none.

        Args:
            source: The source.
            wait: Wait for another process that downloads it; otherwise return None then.
            check: Ask the source whether it has changed since, and download it again if so.

        Raises:
            UserError: If the folder cannot be written, or the source is missing or without permission.
            SourceError: If the source cannot be read.
        """
        start = time.monotonic()
        if not check and (path := self.find(source)):
            return Fetched(path, None, 0.0)
        path = self.locate(source)
        try:
            with self._lock(path.name, wait):
                if (found := self.find(source)) and not (check and self._has_changed(source, path)):
                    return Fetched(found, None, time.monotonic() - start)
                download = self._download(source, path)
        except Timeout:
            return None
        return Fetched(path, download, time.monotonic() - start)

    def list_copies(self) -> list[tuple[Path, int, float]]:
        """List the copies with their size and the time of their last use, the oldest first."""
        found = []
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            is_copy = re.match(r'[0-9a-f]{16}-', path.name) and not path.name.endswith(('.lock', SUFFIX, ABOUT))
            with suppress(OSError):
                status = path.stat()
                if is_copy:
                    about = self._about(path)
                    used = about.stat().st_mtime if about.is_file() else status.st_mtime
                    found.append((path, status.st_size, used))
                elif path.name.endswith('.partial') and time.time() - status.st_mtime > ABANDONED:
                    path.unlink()
        return sorted(found, key=lambda copy: (copy[2], copy[0]))

    def _about(self, path: Path) -> Path:
        """Return the file that says where a copy comes from, and whose time is that of its last use."""
        return path.with_name(path.name + ABOUT)

    def _download(self, source: Source, path: Path) -> Download:
        about = source.stat()
        with self._lock('limit'):
            self._make_room(about['size'] or 0, source)
        download = source.download(path)
        path.with_name(path.name + SUFFIX).unlink(missing_ok=True)
        atomic_write(self._about(path), json.dumps({'url': source.url} | about))
        return download

    def _has_changed(self, source: Source, path: Path) -> bool:
        """Return whether a source is another one than that of the copy; a copy is used where nobody answers."""
        try:
            known = json.loads(self._about(path).read_bytes())
        except (OSError, ValueError):
            return True
        try:
            now = source.stat()
        except OSError:
            return False
        return any(known.get(key) != now[key] for key in ('size', 'etag'))

    def _make_room(self, size: int, source: Source) -> None:
        """Remove the copies that were not used for the longest time until another one fits."""
        copies = self.list_copies()
        limit = self.limit
        if limit is not None and size > limit:
            raise UserError(
                f'{source.url} has {size / 1e6:,.1f} MB, and the cache {self.folder} a limit of {limit / 1e6:,.1f} MB: '
                'raise limit=....'
            )
        taken = sum(copy[1] for copy in copies)
        for path, freed, _ in copies:
            is_full = shutil.disk_usage(self.folder).free < size
            if not is_full and (limit is None or taken + size <= limit):
                return
            for name in (path.name, path.name + SUFFIX, path.name + ABOUT):
                path.with_name(name).unlink(missing_ok=True)
            taken -= freed

    @contextmanager
    def _lock(self, name: str, wait: bool = True) -> Iterator[None]:
        """Keep other processes of this machine out.

        Raises:
            Timeout: If another process is within, and this one does not wait.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.folder).close()
        except OSError as error:
            raise UserError(
                f'Copies of shards cannot be kept in {self.folder} ({error.strerror}): name a folder of this machine '
                'by cache=dict(folder=...).'
            ) from None
        with FileLock(self.folder / f'.{name}.lock', timeout=-1 if wait else 0):
            yield
