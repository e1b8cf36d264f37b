"""End a process when the process that started it has ended."""

import os
import threading
import time
from contextlib import suppress

PAUSE = 0.5  # seconds between looks at the parent


def end_with_parent(parent: int | None = None, pause: float = PAUSE) -> None:
    """End this process soon after its parent process has ended, however that ended.

    A launcher that is killed by SIGKILL cannot end the processes that it started; without a parent they would go on
    writing into a folder that nobody watches. A thread looks whether the system has given this process another parent.
    Linux's parent-death signal would come earlier, but also when the parent lives on and only the *thread* that started
    this process has ended.

    Call it only in a process that must not outlive its parent: one that is started by ``nohup`` or from a shell that
    is closed gets another parent, too.

    Args:
        parent: Process number of the parent if the caller knows it, so that one that ended before this call is noticed.
        pause: Seconds between two looks.
    """
    parent = os.getppid() if parent is None else parent
    threading.Thread(target=_watch, args=(parent, pause), name='end_with_parent', daemon=True).start()


def _watch(parent: int, pause: float) -> None:
    while os.getppid() == parent:
        time.sleep(pause)
    with suppress(OSError):  # whoever read the output may be gone, too
        os.write(2, f'\nProcess {parent}, which started process {os.getpid()}, is gone: this one ends, too.\n'.encode())
    os._exit(1)
