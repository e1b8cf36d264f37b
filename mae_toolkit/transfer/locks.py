"""Locks on folders: one process works in one; whatever way it ends, the system lets go of its lock."""

import fcntl
import json
import os
import socket
import time
from contextlib import contextmanager
from pathlib import Path

NAME = '.lock'
PATIENCE = 1.0  # seconds; others look whether a lock is held by taking it for an instant


@contextmanager
def locked(folder):
    """Hold the lock of a folder: yields whether that succeeded.

    The file stays and tells the process and the host that last held it. The lock itself is the system's and ends with
    the process, so that none is ever stale; children of a fork do not inherit it.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    with open(Path(folder) / NAME, 'a+') as file:
        if not _take(file, PATIENCE):
            yield False
            return
        file.truncate(0)
        file.write(json.dumps({'pid': os.getpid(), 'host': socket.gethostname(), 'since': time.time()}))
        file.flush()
        yield True


def holder(folder):
    """Who holds the lock of a folder, as text; None if nobody does."""
    path = Path(folder) / NAME
    if not path.is_file():
        return None
    with open(path, 'a+') as file:
        if _take(file, 0):
            return None
        file.seek(0)
        try:
            told = json.loads(file.read())
        except json.JSONDecodeError:  # it is being written
            return 'a process'
    return f'process {told["pid"]} on {told["host"]}'


def _take(file, patience):
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except (BlockingIOError, PermissionError):
            if time.monotonic() >= end:
                return False
            time.sleep(0.05)
