"""Runs on this machine, one after the other or several at once, each in a process of its own."""

import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from mmengine.registry import Registry

from mae_toolkit.cores import count_cores
from mae_toolkit.engine.parent import end_with_parent
from mae_toolkit.registry import SCOPE
from mae_toolkit.transfer.job import DONE, LOG, RUNNING, Job
from mae_toolkit.transfer.plan import Plan
from mae_toolkit.transfer.worker import BUSY, record_death, remove_weights, work

PAUSE = 0.2  # seconds between looks at the processes
LOOK = 2.0  # seconds between looks at runs that other processes have


class JobProcess(Protocol):
    """A process that does a job; its output goes to ``log``."""

    log: Path

    def poll(self) -> int | None:
        """Return the exit status, or None as long as the process runs."""

    def stop(self) -> None:
        """End the process."""


class ForkedRun:
    """A run in a fork of this process, which has imported everything already.

    It may be started only as long as this process has neither used a GPU nor computed in several threads.

    Args:
        job: What to do.
        env: Variables of its environment beside those of this process.
    """

    def __init__(self, job: Job, env: dict[str, str]) -> None:
        context = multiprocessing.get_context('fork')
        self.log = job.folder / LOG
        self._process = context.Process(target=_work_in_fork, args=(job.folder, self.log, env, os.getpid()))
        self._process.start()

    def poll(self) -> int | None:
        """Return the exit status, or None as long as the process runs."""
        return self._process.exitcode

    def stop(self) -> None:
        """End the process, by force if it does not end within ten seconds."""
        self._process.terminate()
        self._process.join(10)
        self._process.kill()


class SubprocessRun:
    """A run in a new process.

    Args:
        job: What to do.
        env: Variables of its environment beside those of this process.
    """

    def __init__(self, job: Job, env: dict[str, str]) -> None:
        self.log = job.folder / LOG
        command = [sys.executable, '-m', 'mae_toolkit.transfer.worker', str(job.folder), str(os.getpid())]
        with open(self.log, 'ab') as log:
            self._process = subprocess.Popen(
                command, env=os.environ | env, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    def poll(self) -> int | None:
        """Return the exit status, or None as long as the process runs."""
        return self._process.poll()

    def stop(self) -> None:
        """End the process, by force if it does not end within ten seconds."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()


def run_locally(
    plan: Plan, workers: int = 1, say: Callable[[str], object] = print, fork: bool | None = None
) -> list[Job]:
    """Do what is missing of a plan.

    Args:
        plan: The runs.
        workers: Processes at once.
        say: Function that gets lines of progress.
        fork: Whether runs are forks; if None, they are where there is no GPU.

    Returns:
        The jobs that failed, or could not begin because their pretraining failed.
    """
    fork = torch.cuda.device_count() == 0 if fork is None else fork
    if fork:
        _import_before_forks(plan)
    _clear(plan)
    active: dict[int, tuple[Job, JobProcess]] = {}
    failed: list[Job] = []
    waiting, looked = plan.todo(), 0.0
    try:
        while waiting or active:
            polled = {slot: process.poll() for slot, (_, process) in active.items()}
            for slot, status in polled.items():
                if status is None:
                    continue
                job, process = active.pop(slot)
                record_death(job.folder, process.log, status)
                if status == BUSY:
                    waiting.append(job)
                    continue
                failed += [job] if job.state() != DONE else []
                left = [j for j in waiting + [j for j, _ in active.values()] if j not in failed]
                say(_progress(plan, job, failed, left, workers))
            waiting = [job for job in waiting if not _fails_with_pretraining(job, failed)]
            if time.monotonic() - looked > LOOK or not active:
                waiting, looked = _still_waiting(waiting), time.monotonic()
            _fill(waiting, active, workers, fork)
            time.sleep(PAUSE)
    finally:
        for _, process in active.values():
            process.stop()
    return failed


def _clear(plan: Plan) -> None:
    """Remove the weights that runs left that were killed after they had their result."""
    for job in plan.jobs:
        if job.state() == DONE and not job.record.keep_checkpoints:
            remove_weights(job.folder)


def _import_before_forks(plan: Plan) -> None:
    """Import what every run would import for itself, which takes longer than a small run."""
    importlib.import_module('mae_toolkit.apis.training')  # that of evaluation is imported by the plan
    for scope in {job.cfg.get('default_scope', SCOPE) for job in plan.jobs} | {SCOPE}:
        for registry in vars(importlib.import_module(f'{scope}.registry')).values():
            if isinstance(registry, Registry):
                registry.import_from_location()


def _work_in_fork(folder: Path, log: Path, env: dict[str, str], parent: int) -> None:
    end_with_parent(parent)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ.update(env)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    torch.set_num_threads(int(env['OMP_NUM_THREADS']))
    sys.exit(work(folder))


def _fill(waiting: list[Job], active: dict[int, tuple[Job, JobProcess]], workers: int, fork: bool) -> None:
    """Start jobs whose weights are there and that no other process does, as long as there are workers."""
    for slot in range(workers):
        if slot in active:
            continue
        ready = (job for job in waiting if job.needs is None or job.needs.state() == DONE)
        job = next((job for job in ready if job.state() != RUNNING), None)
        if job is None:
            return
        waiting.remove(job)
        job.prepare()
        active[slot] = job, (ForkedRun if fork else SubprocessRun)(job, _environment(slot, workers))


def _environment(slot: int, workers: int) -> dict[str, str]:
    """Share the cores among the workers, and give each a GPU of its own where there are several."""
    cores = count_cores()
    env = {'OMP_NUM_THREADS': os.environ.get('OMP_NUM_THREADS') or str(max(1, cores // workers))}
    gpus = torch.cuda.device_count()
    if gpus > 1 and workers > 1:
        visible = os.environ.get('CUDA_VISIBLE_DEVICES')
        names = visible.split(',') if visible else list(map(str, range(gpus)))
        env['CUDA_VISIBLE_DEVICES'] = names[slot % len(names)]
    root = str(Path(__file__).resolve().parents[2])
    return env | {'PYTHONPATH': os.pathsep.join(filter(None, [root, os.environ.get('PYTHONPATH')]))}


def _fails_with_pretraining(job: Job, failed: list[Job]) -> bool:
    """Count a job as failed if it waits for a pretraining that failed, and say whether it does."""
    if job.needs is None or job.needs not in failed:
        return False
    failed.append(job)
    return True


def _still_waiting(jobs: list[Job]) -> list[Job]:
    """Leave out the jobs that other processes have finished."""
    return [job for job in jobs if job.state() != DONE]


def _progress(plan: Plan, job: Job, failed: list[Job], left: list[Job], workers: int) -> str:
    """Say in a line what became of a job and what is left."""
    result = job.result()
    done = sum(j.result() is not None for j in plan.jobs)
    how = f'done in {result.seconds:.0f} s' if result else f'FAILED: {job.describe_failure()} ({job.folder / LOG})'
    rest = f'; time left: {plan.remaining(left, workers)}' if left else ''
    fails = f', {len(failed)} failed' if failed else ''
    return f'[{done}/{len(plan.jobs)}{fails}] {job.record.describe()}: {how}{rest}'
