"""Watch the ranks of a run: one that dies or hangs ends all, with a report, instead of letting them wait for it."""

import faulthandler
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
from torch import distributed

from mae_toolkit.engine.preemption import RANK_LOST
from mae_toolkit.engine.rank_progress import END, Progress
from mae_toolkit.engine.stacks import describe_main_thread, dump_flight_recorder, dump_stacks
from mae_toolkit.engine.time_limits import TimeLimits

TICK = 1.0  # seconds between two signs of life
GRACE = 5.0  # seconds for the main thread to end on its own, and for the other ranks to say where they are
# Calls in which the main thread of a rank waits for others; the backward pass waits for their gradients.
WAITING = 'torch/distributed/', 'in _engine_run_backward', 'failed ('
VERDICT, SEEN, REPORTED = 'verdict', 'seen', 'reported'


class RankWatch:
    """A thread of each rank that gives signs of life, and ends the process when a rank is lost or hangs.

    Each rank writes its progress into the store of the run every second: the number of its step, and whether it is
    within it. The first rank reads them all, so the cost grows with the ranks and not with their square. Times are
    measured by the clock of whoever reads, so clocks of machines need not agree.

    - A step hangs if it takes too long *after all ranks have entered it*. As long as one of them validates, saves or
      draws between two steps, however long it takes up to another limit, the wait of the others does not count.
    - A rank is dead if its process is gone, which ranks of the same machine look for; or if it gives no sign of life.
    - If the store is gone, so is the process that held it: the first rank's, unless torchrun holds it.

    Whoever finds out first writes a verdict into the store. On it, each rank writes the stacks of its threads to
    ``rank_K.txt``, and NCCL's last collectives to ``rank_K_flight_recorder.pickle``, tells where its main thread is,
    and ends; the first to know prints the report. A rank whose thread gets no turn, as something holds Python's lock,
    writes its stacks to its error output and ends.

    Args:
        store: A client of the run's store that nothing else uses, as one call at a time may wait in it.
        rank: Number of this process.
        world_size: Number of processes.
        limits: The time limits.
        folder: Where reports go; made when there is one.
        tick: Seconds between two signs of life.
        end: Ends the process with a status; ``os._exit`` by default. It is 86 where a rank was lost or hangs.
    """

    def __init__(
        self,
        store: distributed.Store,
        rank: int,
        world_size: int,
        limits: TimeLimits,
        folder: str | Path,
        tick: float = TICK,
        end: Callable[[int], object] = os._exit,
    ) -> None:
        self.store, self.rank, self.world_size, self.limits = store, rank, world_size, limits
        self.folder, self.tick, self.end = Path(folder), tick, end
        self._position = self._count = 0  # twice the number of the step, plus 1 within it; signs of life
        self._lost = ''  # the error by which the main thread has failed only because of another rank
        self._is_ending = False
        self._progress = Progress(limits, 0)
        self._places: list[Any] = []  # host, namespace and process of each rank
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name='rank_watch', daemon=True)

    def start(self, step: int) -> None:
        """Start the thread.

        Args:
            step: Number of the first step to come.
        """
        self._position, self._progress = 2 * step, Progress(self.limits, step)
        self.store.set(f'place/{self.rank}', json.dumps([socket.gethostname(), _find_namespace(), os.getpid()]))
        self._beat()
        self._thread.start()

    def enter_step(self, step: int) -> None:
        """Note that this rank has all that it needs for a step, and begins it."""
        self._position = 2 * step + 1

    def leave_step(self) -> None:
        """Note that the step of this rank has ended, and what follows it has begun."""
        self._position += 1

    def stop(self) -> None:
        """End the watch over this rank, whose training has ended; the others know that it is not lost."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        self._thread.join(GRACE)  # it may wait in the store
        faulthandler.cancel_dump_traceback_later()
        with suppress(RuntimeError):  # the store may be gone by now
            self.store.set(f'beat/{self.rank}', END)

    def fail(self, error: BaseException) -> None:
        """Tell the other ranks why this one ends; if it only fails because of another, end with that one's sentence.

        Args:
            error: What has ended the training of this rank.
        """
        last = f'{type(error).__name__}: {" ".join(str(error).split())[:500]}'
        self._lost = last if _is_of_communication(error) else ''
        if self._lost and self._thread.is_alive():
            self._thread.join(GRACE)  # it looks for the rank that is lost
            if self._is_ending:
                self._thread.join()
        self._stopped.set()
        faulthandler.cancel_dump_traceback_later()
        with suppress(RuntimeError):
            self._claim('failed', self.rank, f'failed: {last}')
            self._note_seen()
            if self.rank == 0:  # whose process may hold the store: without it, the others would take it for killed
                others = [f'{SEEN}/{rank}' for rank in range(1, self.world_size)]
                self.store.wait(others, timedelta(seconds=4 * self.tick))

    def _note_seen(self) -> None:
        """Let the first rank know that this one has the verdict."""
        self.store.set(f'{SEEN}/{self.rank}', '1')

    def _run(self) -> None:
        """Give signs of life and look at the others until the training ends."""
        while not self._stopped.wait(self.tick):
            try:
                self._beat()
                verdict = self._judge()
            except RuntimeError as error:  # of torch's network, DistNetworkError and its like among them
                if not self._lost and self._stopped.wait(GRACE):
                    return
                verdict = {'kind': 'store', 'rank': 0, 'by': self.rank, 'text': self._describe_lost_store(error)}
            if verdict is None:
                continue
            if verdict['kind'] == 'failed' and not self._lost and self._stopped.wait(GRACE):
                return  # this rank has failed on its own, and says so
            self._is_ending = True
            try:
                self._end_with(verdict)
            finally:
                self.end(1 if verdict['kind'] == 'failed' else RANK_LOST)  # by which a job knows that it may go on
            return

    def _beat(self) -> None:
        """Write a sign of life, and arm what ends this process if it is the last one for too long."""
        self._count += 1
        position = self._position
        self.store.set(f'beat/{self.rank}', f'{self._count} {position}')
        faulthandler.dump_traceback_later(self._progress.allow_silence(position), exit=True, file=2)

    def _judge(self) -> dict[str, Any] | None:
        """Return the verdict that ends the run, if there is one."""
        if self.store.check([VERDICT]):
            verdict = json.loads(self.store.get(VERDICT))
            with suppress(RuntimeError):
                self._note_seen()  # whereupon the store may end
            return verdict
        if not self._places:
            if not self.store.check([f'place/{rank}' for rank in range(self.world_size)]):
                return None  # a rank has not come here yet, for which the limit of its collectives holds
            texts = self.store.multi_get([f'place/{rank}' for rank in range(self.world_size)])
            self._places = [json.loads(text) for text in texts]
        watched = range(self.world_size) if self.rank == 0 else range(1)
        beats = [beat.decode() for beat in self.store.multi_get([f'beat/{rank}' for rank in watched])]
        if dead := self._find_dead():
            return self._claim('dead', dead[0], dead[1])
        self._progress.update(dict(enumerate(beats)), time.monotonic())
        if silent := self._progress.find_silent():
            return self._claim('silent', *silent)
        if self.rank == 0 and (hanging := self._progress.find_hanging()):
            return self._claim('hang', *hanging)
        return None

    def _find_dead(self) -> tuple[int, str] | None:
        """Return the number and the fate of a rank of this machine whose process is gone before its training ended."""
        own = self._places[self.rank]
        for rank, (host, namespace, process) in enumerate(self._places):
            if [host, namespace] != own[:2] or rank == self.rank or _is_alive(process):
                continue
            if self.store.get(f'beat/{rank}').decode() == END or self.store.check([VERDICT]):
                continue
            return rank, f'is gone: its process {process} was killed, perhaps for memory, or ended without a word'
        return None

    def _claim(self, kind: str, rank: int, fate: str) -> dict[str, Any]:
        """Write a verdict, and return the one that holds: the first."""
        host = self._places[rank][0] if self._places else socket.gethostname()
        verdict = {'kind': kind, 'rank': rank, 'by': self.rank, 'text': f'Rank {rank} on {host} {fate}.'}
        return json.loads(self.store.compare_set(VERDICT, '', json.dumps(verdict)))

    def _describe_lost_store(self, error: Exception) -> str:
        host = self._places[0][0] if self._places else 'its machine'
        last = ' '.join(str(error).split())[:200]
        return f'Rank 0 on {host}, or the torchrun that holds the store of the run, is gone ({last}).'

    def _end_with(self, verdict: dict[str, Any]) -> None:
        """Write the stacks of this process, and say why it ends."""
        faulthandler.cancel_dump_traceback_later()
        where = f'failed ({self._lost})' if self._lost else describe_main_thread()
        if verdict['kind'] != 'failed':
            with suppress(OSError):
                dump_stacks(self.folder / f'rank_{self.rank}.txt')
                dump_flight_recorder(self.folder / f'rank_{self.rank}_flight_recorder.pickle')
        lines = [f'error: {verdict["text"]} Rank {self.rank} ends, too.']
        with suppress(RuntimeError):
            self.store.set(f'where/{self.rank}', where)
            if verdict['by'] == self.rank:
                lines += self._report(verdict)
                self.store.set(REPORTED, '1')
                time.sleep(self.tick)  # the others read it from this process, if it is the first
            elif verdict['kind'] != 'failed':
                self.store.wait([REPORTED], timedelta(seconds=2 * GRACE))  # it may need the store of this process
        with suppress(OSError):
            os.write(2, ('\n' + '\n'.join(lines) + '\n').encode())

    def _report(self, verdict: dict[str, Any]) -> list[str]:
        """Collect where all ranks are, write it to ``report.txt``, and return its lines."""
        lost = verdict['rank'] if verdict['kind'] == 'dead' else None
        keys = {rank: f'where/{rank}' for rank in range(self.world_size) if rank != lost}
        deadline = time.monotonic() + GRACE
        while not self.store.check(list(keys.values())) and time.monotonic() < deadline:
            time.sleep(self.tick / 4)
        where = {rank: self.store.get(key).decode() for rank, key in keys.items() if self.store.check([key])}
        names = [f'rank {rank} on {host}' for rank, (host, _, _) in enumerate(self._places)]
        lines = [f'{names[rank]}: {where.get(rank, "no answer")}' for rank in keys if self._places]
        busy = [rank for rank in where if not any(call in where[rank] for call in WAITING)]
        if verdict['kind'] == 'hang' and 0 < len(busy) < len(where):
            lines.append(f'The others seem to wait for {", ".join(names[rank] for rank in busy)}.')
        if verdict['kind'] != 'failed':
            with suppress(OSError):
                self.folder.mkdir(parents=True, exist_ok=True)
                (self.folder / 'report.txt').write_text('\n'.join([verdict['text'], *lines]) + '\n')
            lines.append(f'The stacks of all ranks are in {self.folder}.')
        return lines


def _is_alive(process: int) -> bool:
    """Return whether a process of this machine runs; one that has ended and that nobody waited for does not."""
    try:
        return psutil.Process(process).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def _find_namespace() -> str:
    """Name what process numbers of this process count in: two containers of a machine have numbers of their own."""
    try:
        return os.readlink('/proc/self/ns/pid')
    except OSError:  # not Linux
        return ''


def _is_of_communication(error: BaseException) -> bool:
    """Return whether an error only says that another rank did not answer."""
    text = str(error).lower()
    known = 'gloo', 'nccl', 'connection closed by peer', 'connection reset by peer', 'timed out waiting'
    return isinstance(error, RuntimeError) and any(word in text for word in known)
