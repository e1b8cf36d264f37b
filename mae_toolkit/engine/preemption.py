"""A run that is told to stop: signals only set a flag, and all processes of the run agree on the step where it ends."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from mmap import mmap
from types import FrameType
from typing import Any

import torch
from torch import distributed
from torch.utils.data import DataLoader

# Exit status of a run that was told to stop and is to be started again. HTCondor's self-checkpointing jobs end with the
# same one; it is neither a shell's (1, 2, 126 and up) nor one of sysexits.h (64 to 78).
PREEMPTED = 85
RANK_LOST = 86  # of a run of which a process was lost, or hangs: another start may go on
SIGNALS = (signal.SIGUSR1, signal.SIGTERM)
PATIENCE = 1.0  # seconds in which a signal to all processes of a job has reached all of them
TRAINING, ASKED, OVER = 0, 1, 2  # what the main process shares with its forks


class Preempted(SystemExit):
    """A run ends before its time because it was told to, and goes on when it is started again with ``--resume``.

    It is a ``SystemExit``: a program that does not catch it ends with the status :data:`PREEMPTED`.

    Args:
        message: What happened, and from where the run goes on.
    """

    def __init__(self, message: str) -> None:
        super().__init__(PREEMPTED)
        self.message = message

    def __str__(self) -> str:
        return self.message


class StopRequest:
    """A request to stop, made by a signal; the handlers of the signals do nothing but note it.

    Slurm and shells signal all processes of a job at once. The forks of this process, such as the workers of data
    loaders, therefore outlive the signals while this process still trains: it needs their batches.

    Attributes:
        signal: The signal that came first; None as long as there is no request.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._process = os.getpid()
        self._shared = mmap(-1, 1)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Note the signals for the time of a ``with`` block, and restore their handlers afterward.

        Only the main thread of a program may do so; in another thread nothing happens.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._note) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
            self._shared[0] = OVER

    def protect_workers(self, loader: DataLoader) -> None:
        """Let the workers of a data loader that are still to be forked outlive the signals while this process trains.

        torch gives its workers a handler of its own for SIGTERM, by which they would end.
        """
        context: Any = loader.multiprocessing_context or multiprocessing
        if loader.num_workers > 0 and context.get_start_method() == 'fork':
            loader.worker_init_fn = partial(_init_worker, loader.worker_init_fn, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        """Note a signal; in a fork, wait for the main process to have it, too."""
        if os.getpid() == self._process:
            self.signal = self.signal or signal.Signals(number)
            self._shared[0] = ASKED
            return
        if number == signal.SIGUSR1:
            return
        end = time.monotonic() + PATIENCE
        while self._shared[0] == TRAINING and time.monotonic() < end:
            time.sleep(0.01)
        if self._shared[0] != ASKED:
            os._exit(0)  # as torch's workers do, so that no error covers up the one for which the main process ends


class StopVote:
    """The agreement of all processes of a run on the step after which they stop.

    Each process gives its flag at every step. The flags meet on the CPU in the background while the next step is
    computed, so that no process waits for another, nor for its GPU: the answer is known one step later. A single
    process has its answer at once.
    """

    def __init__(self) -> None:
        several = distributed.is_initialized() and distributed.get_world_size() > 1
        self._group: Any = distributed.new_group(backend='gloo') if several else None
        self._work: Any = None
        self._flag = torch.zeros(1, dtype=torch.int32)

    def vote(self, flag: bool) -> bool:
        """Give the flag of this process at a step, and return whether any process had one at the step before.

        Args:
            flag: Whether this process was told to stop.
        """
        if self._group is None:
            return flag
        if self.wait():
            return True
        self._flag.fill_(int(flag))
        self._work = distributed.all_reduce(self._flag, distributed.ReduceOp.MAX, self._group, async_op=True)
        return False

    def wait(self) -> bool:
        """Return whether any process had a flag at the last vote."""
        if self._work is not None:
            self._work.wait()
            self._work = None
        return bool(self._flag.item())


def ignore_signals() -> None:
    """Ignore further signals to stop: the process ends already."""
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def _init_worker(init: Callable[[int], None] | None, note: Callable[..., None], worker_id: int) -> None:
    for number in SIGNALS:
        signal.signal(number, note)
    if init is not None:
        init(worker_id)
