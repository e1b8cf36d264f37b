"""Lock a folder for one process; the system releases the lock however the process ends."""

import errno
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from mmengine.logging import print_log

from mae_toolkit.errors import UserError

NAME = '.lock'
PATIENCE = 1.0  # seconds; other processes take a lock for an instant to find out whether it is held
WITHOUT_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)  # errors of a file system without locks


@contextmanager
def lock_folder(folder: str | Path, patience: float = PATIENCE) -> Iterator[bool]:
    """Hold the lock of a folder for the time of a ``with`` block, and say whether that succeeded.

    The lock is ``flock`` on the file ``.lock``, which stays and names the process and the host that last held the lock.
    The system releases it when the process ends in any way, so that a lock is never stale. Children of a fork, such as
    the workers of a data loader, give up the inherited descriptor: an orphan keeps no lock. On NFS the lock holds
    between hosts, unless the file system is mounted with ``nolock`` or ``local_lock``.

    Args:
        folder: The folder; made if it is not there.
        patience: Seconds to wait for another process that holds the lock.

    Yields:
        Whether this process holds the lock; if not, another one does.

    Raises:
        OSError: If the folder cannot be made or written to, or its file system has no locks.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    lock = _make_lock(folder, patience, _write_holder)
    try:
        lock.acquire()
        held = True
    except Timeout:
        held = False
    except OSError as error:
        raise OSError(error.errno, error.strerror, error.filename or lock.lock_file) from None
    try:
        yield held
    finally:
        if held:
            lock.release()


def find_holder(folder: str | Path) -> str | None:
    """Find which process holds the lock of a folder, as text; None if none does."""
    if not Path(folder, NAME).is_file():
        return None
    try:
        with _make_lock(folder, 0):
            return None
    except Timeout:
        return _read_holder(Path(folder, NAME))


@contextmanager
def reserve_work_dir(work_dir: str | Path, patience: float = PATIENCE) -> Iterator[None]:
    """Keep other trainings out of a work directory for the time of a ``with`` block.

    On a file system without locks a warning takes the place of the lock.

    Args:
        work_dir: The folder.
        patience: Seconds to wait for another process that trains there, and is about to end.

    Raises:
        UserError: If another process trains there.
    """
    with ExitStack() as stack:
        try:
            free = stack.enter_context(lock_folder(work_dir, patience))
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise
            free = True
            print_log(
                f'{work_dir} is on a file system without locks: nothing keeps a second training out of it.',
                'current',
                logging.WARNING,
            )
        if not free:
            raise UserError(
                f'{work_dir} is in use: {_read_holder(Path(work_dir, NAME))} is training there; wait for it, end it, '
                'or choose another folder.'
            )
        yield


def _make_lock(folder: str | Path, timeout: float, on_acquired: Callable[[int], None] | None = None) -> FileLock:
    path = Path(folder, NAME)
    return FileLock(path, timeout, fallback_to_soft=False, preserve_lock_file=True, on_acquired=on_acquired)


def _write_holder(descriptor: int) -> None:
    holder = {'pid': os.getpid(), 'host': socket.gethostname(), 'since': time.time()}
    os.ftruncate(descriptor, 0)
    os.write(descriptor, json.dumps(holder).encode())


def _read_holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text())
        return f'process {int(holder["pid"])} on {holder["host"]}'
    except (OSError, ValueError, LookupError, TypeError):  # it is being written, or something else wrote there
        return 'another process'
