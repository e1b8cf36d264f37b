"""Runs on this machine, one after the other or several at once, each in a process of its own."""

import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from mmengine.registry import Registry

from mae_toolkit.engine.parent import end_with_parent
from mae_toolkit.registry import SCOPE
from mae_toolkit.transfer.job import DONE, FAILURE, LOG, RUNNING, read
from mae_toolkit.transfer.worker import BUSY, record_death, remove_weights, work

PAUSE = 0.2  # seconds between looks at the processes
LOOK = 2.0  # seconds between looks at runs that other processes have


class ForkedRun:
    """A run in a fork of this process, which has imported everything already.

    It may be started only as long as this process has neither used a GPU nor computed in several threads.
    """

    def __init__(self, job, env):
        context = multiprocessing.get_context('fork')
        self.log = job.folder / LOG
        self._process = context.Process(target=_in_fork, args=(str(job.folder), str(self.log), env, os.getpid()))
        self._process.start()

    def poll(self):
        """Exit status, or None as long as it runs."""
        return self._process.exitcode

    def stop(self):
        """End it."""
        self._process.terminate()
        self._process.join(10)
        self._process.kill()


class SubprocessRun:
    """A run in a new process."""

    def __init__(self, job, env):
        self.log = job.folder / LOG
        command = [sys.executable, '-m', 'mae_toolkit.transfer.worker', str(job.folder), str(os.getpid())]
        with open(self.log, 'ab') as log:
            self._process = subprocess.Popen(
                command, env=os.environ | env, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    def poll(self):
        """Exit status, or None as long as it runs."""
        return self._process.poll()

    def stop(self):
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()


def run_locally(plan, workers=1, say=print, fork=None):
    """Do what is missing of a plan.

    Args:
        plan (Plan): The runs.
        workers (int): Processes at once.
        say (Callable): Gets lines of progress.
        fork (bool | None): Whether runs are forks; by default they are where there is no GPU.

    Returns:
        list[Job]: Jobs that failed, or could not begin because their pretraining failed.
    """
    fork = torch.cuda.device_count() == 0 if fork is None else fork
    if fork:
        _import_before_forks(plan)
    _clear(plan)
    waiting, active, failed, looked = plan.todo(), {}, [], 0.0
    try:
        while waiting or active:
            for slot in [slot for slot, (_, process) in active.items() if process.poll() is not None]:
                job, process = active.pop(slot)
                status = process.poll()
                record_death(job.folder, process.log, status)
                if status == BUSY:
                    waiting.append(job)
                    continue
                failed += [job] if job.state() != DONE else []
                left = [j for j in waiting + [j for j, _ in active.values()] if j not in failed]
                say(_progress(plan, job, failed, left, workers))
            waiting = [job for job in waiting if not _is_lost(job, failed)]
            if time.monotonic() - looked > LOOK or not active:
                waiting, looked = _still_waiting(waiting), time.monotonic()
            _fill(waiting, active, workers, fork)
            time.sleep(PAUSE)
    finally:
        for _, process in active.values():
            process.stop()
    return failed


def _clear(plan):
    """Remove weights that runs left, which were killed after they had their result."""
    for job in plan.jobs:
        if job.state() == DONE and not job.record['keep_checkpoints']:
            remove_weights(job.folder)


def _import_before_forks(plan):
    """Import what every run would import for itself, which takes longer than a small run."""
    importlib.import_module('mae_toolkit.apis.training')
    for scope in {job.cfg.get('default_scope', SCOPE) for job in plan.jobs} | {SCOPE}:
        for registry in vars(importlib.import_module(f'{scope}.registry')).values():
            if isinstance(registry, Registry):
                registry.import_from_location()


def _in_fork(folder, log, env, parent):
    end_with_parent(parent)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ.update(env)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    torch.set_num_threads(int(env['OMP_NUM_THREADS']))
    sys.exit(work(folder))


def _fill(waiting, active, workers, fork):
    """Start jobs whose weights are there, and that nobody else has, as long as there are workers."""
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


def _environment(slot, workers):
    """Threads, and a GPU of its own where there are several."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    env = {'OMP_NUM_THREADS': os.environ.get('OMP_NUM_THREADS') or str(max(1, cores // workers))}
    gpus = torch.cuda.device_count()
    if gpus > 1 and workers > 1:
        visible = os.environ.get('CUDA_VISIBLE_DEVICES')
        names = visible.split(',') if visible else list(map(str, range(gpus)))
        env['CUDA_VISIBLE_DEVICES'] = names[slot % len(names)]
    root = str(Path(__file__).resolve().parents[2])
    return env | {'PYTHONPATH': os.pathsep.join(filter(None, [root, os.environ.get('PYTHONPATH')]))}


def _is_lost(job, failed):
    """Whether a job waits for a pretraining that failed; it failed, too."""
    if job.needs is None or job.needs not in failed:
        return False
    failed.append(job)
    return True


def _still_waiting(jobs):
    """Without those that other processes have finished."""
    return [job for job in jobs if job.state() != DONE]


def _reason(job):
    """The last that was heard of a job that failed."""
    lines = (read(job.folder / FAILURE) or {}).get('last_lines') or ['its pretraining failed']
    return lines[-1]


def _progress(plan, job, failed, left, workers):
    result = job.result()
    names = [job.record['task'] or 'pretraining', job.record['encoder']]
    if job.record['kind'] == 'run':
        names += [f'{100 * job.record["labels"]:g}%', f'seed {job.record["seed"]}']
    done = sum(j.result() is not None for j in plan.jobs)
    how = f'done in {result["seconds"]:.0f} s' if result else f'FAILED: {_reason(job)} ({job.folder / LOG})'
    rest = f'; time left: {plan.remaining(left, workers)}' if left else ''
    fails = f', {len(failed)} failed' if failed else ''
    return f'[{done}/{len(plan.jobs)}{fails}] {", ".join(names)}: {how}{rest}'
