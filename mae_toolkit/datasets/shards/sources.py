"""Reading of files on other machines through fsspec: time-outs, retries, and errors that name the source."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from mae_toolkit.errors import UserError
from mae_toolkit.files import atomic_write
from mae_toolkit.printing import first_line, format_count

CHUNK = 4 << 20  # bytes that are read at a time
STREAMED = ('http', 'https', 'hf')  # whose files are read in one request; of others, each chunk is one
INSTALL = {'s3': 's3fs', 'gs': 'gcsfs', 'gcs': 'gcsfs', 'hf': 'huggingface_hub', 'http': 'aiohttp', 'https': 'aiohttp'}
T = TypeVar('T')


class SourceError(ConnectionError):
    """A source that could not be read in spite of all retries; a later run may succeed."""


class MissingError(UserError):
    """A source that is not there."""


class TruncatedError(OSError):
    """A source that gave fewer bytes than it announced."""


@dataclass(frozen=True)
class SourceOptions:
    """How sources are read.

    Attributes:
        timeout: Seconds without a byte after which an attempt is given up.
        retries: How often a failed attempt is repeated.
        pause: Seconds before the first retry; each further pause is twice as long, up to 60.
        storage_options: Arguments of fsspec's file system, such as ``{'anon': True}`` for S3.
    """

    timeout: float = 60.0
    retries: int = 6
    pause: float = 1.0
    storage_options: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        """Refuse values that cannot be followed."""
        for name, least in (('timeout', 0.001), ('retries', 0), ('pause', 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < float('inf'):
                raise UserError(f'{name}={value!r} of a source must be a number of at least {least}.')


@dataclass(frozen=True)
class Download:
    """What is known of a download that has ended.

    Attributes:
        url: The source.
        size: Bytes.
        seconds: How long it took, with all attempts.
        failures: Why attempts failed, in order.
    """

    url: str
    size: int
    seconds: float
    failures: tuple[str, ...]

    def __str__(self) -> str:
        """Return a sentence with the source, the rate and the failures."""
        rate = self.size / 1e6 / max(self.seconds, 1e-9)
        failed = f', {format_count(len(self.failures), "failed attempt")}: {self.failures[-1]}' if self.failures else ''
        return f'{self.url}: {self.size / 1e6:.1f} MB in {self.seconds:.1f} s ({rate:.1f} MB/s{failed})'


class Source:
    """A file on another machine.

    Args:
        url: URL that fsspec knows, such as ``https://``, ``s3://`` or ``hf://datasets/``.
        options: How it is read.
    """

    def __init__(self, url: str, options: SourceOptions) -> None:
        self.url, self.options = url, options
        self._protocol = url.partition('://')[0].split('::')[0]

    def stat(self) -> dict[str, Any]:
        """Return ``size`` in bytes, None if the source does not tell, and ``etag`` or the like, as text.

        Raises:
            UserError: If it is missing, or there is no permission.
            SourceError: If it cannot be reached.
        """
        info = self._retry(lambda: self._connect()[0].info(self._connect()[1]), [])
        marks = (info.get(key) for key in ('ETag', 'etag', 'LastModified', 'last_modified', 'mtime', 'created'))
        mark = next((str(mark) for mark in marks if mark), '')
        return {'size': info.get('size'), 'etag': mark}

    def check_permission(self) -> None:
        """Read the first byte.

        Raises:
            UserError: If it is missing, or there is no permission.
            SourceError: If it cannot be reached.
        """
        self._retry(lambda: next(self._read_chunks(1), b''), [])

    def read(self) -> bytes | None:
        """Read all of a small file; None if there is none.

        Raises:
            UserError: If there is no permission.
            SourceError: If it cannot be reached.
        """
        try:
            return self._retry(lambda: b''.join(self._read_chunks(CHUNK)), [])
        except MissingError:
            return None

    def download(self, path: Path) -> Download:
        """Write the source into a file, which has its name only when it is whole.

        Raises:
            UserError: If it is missing, or there is no permission.
            SourceError: If it cannot be read.
        """
        start = time.monotonic()
        failures: list[str] = []

        def write(file: BinaryIO) -> None:
            expected = self._connect()[0].info(self._connect()[1]).get('size')
            written = sum(file.write(chunk) for chunk in self._read_chunks(CHUNK))
            if expected is not None and written != expected:
                raise TruncatedError(f'{written:,} of {expected:,} bytes came')

        self._retry(lambda: atomic_write(path, write), failures)
        return Download(self.url, path.stat().st_size, time.monotonic() - start, tuple(failures))

    def _read_chunks(self, size: int) -> Iterator[bytes]:
        system, path = self._connect()
        more: dict[str, Any] = dict(block_size=0) if self._protocol in STREAMED else dict(cache_type='none')
        with system.open(path, 'rb', **more) as file:
            while chunk := file.read(size):
                yield chunk

    def _connect(self) -> tuple[Any, str]:
        """Return the file system and the path in it, in this process: those of a parent process are not used."""
        try:
            from fsspec.core import url_to_fs
        except ImportError:
            raise UserError(f'{self.url} is read by the package fsspec: pip install mae_toolkit[cluster].') from None
        options = dict(self.options.storage_options or {})
        if self._protocol in ('http', 'https'):
            options = {'client_kwargs': self._limit_time()} | options
        try:
            return url_to_fs(self.url, **options)
        except ImportError as error:
            package = INSTALL.get(self._protocol, 'one that fsspec names')
            raise UserError(f'{self.url} needs the package {package} ({first_line(error)}): install it.') from None
        except ValueError as error:
            raise UserError(
                f'{self.url} cannot be read ({first_line(error)}): give a path, or a URL of http, s3, gs, hf or '
                'another file system of fsspec.'
            ) from None

    def _limit_time(self) -> dict[str, Any]:
        """Return the time-outs of aiohttp: without a byte, and no limit of the whole, which is 300 s otherwise."""
        try:
            from aiohttp import ClientTimeout
        except ImportError:
            raise UserError(f'{self.url} is read by the package aiohttp: pip install mae_toolkit[cluster].') from None
        return {'timeout': ClientTimeout(total=None, sock_connect=self.options.timeout, sock_read=self.options.timeout)}

    def _retry(self, function: Callable[[], T], failures: list[str]) -> T:
        """Call a function again while it fails for a reason that may pass, and note the reasons."""
        start = time.monotonic()
        while True:
            try:
                return function()
            except (UserError, MemoryError):
                raise
            except Exception as raised:  # file systems raise what their libraries do
                error = find_reason(raised)
                refuse_permanent(self.url, error)
                failures.append(f'{type(error).__name__}: {first_line(error)}')
                if len(failures) > self.options.retries:
                    raise SourceError(
                        f'{self.url} could not be read in {format_count(len(failures), "attempt")} within '
                        f'{time.monotonic() - start:.0f} s on {os.uname().nodename} ({failures[-1]}).'
                    ) from error
            time.sleep(min(60.0, self.options.pause * 2 ** (len(failures) - 1)))


def find_reason(error: Exception) -> Exception:
    """Return what is behind an error: fsspec calls a URL not found whatever went wrong when it asked for its size."""
    cause = error.__cause__
    return cause if isinstance(error, FileNotFoundError) and isinstance(cause, Exception) else error


def refuse_permanent(url: str, error: BaseException) -> None:
    """Refuse a source that waiting does not change: it is missing, or there is no permission.

    Raises:
        UserError: With the remedy; nothing is raised for other errors.
    """
    status = getattr(error, 'status', getattr(getattr(error, 'response', None), 'status_code', None))
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        raise MissingError(f'There is no {url}: correct the URL.') from error
    if isinstance(error, PermissionError) or status in (401, 403):
        reason = f'status {status}' if status else first_line(error)
        raise UserError(
            f'There is no permission to read {url} ({reason}): log in, or give credentials by storage_options=....'
        ) from error
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        raise error
