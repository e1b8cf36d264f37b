"""Note what a run is, and that it is alive."""

import hashlib
import json
import math
import os
import platform
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mmengine
import torch
from mmengine.dist import all_gather_object, get_world_size, is_main_process, master_only
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

import mae_toolkit
from mae_toolkit.config.text import to_plain
from mae_toolkit.engine.hooks.speed import SpeedHook
from mae_toolkit.engine.preemption import Preempted
from mae_toolkit.files import remove_partial
from mae_toolkit.printing import first_line
from mae_toolkit.registry import HOOKS
from mae_toolkit.run_files import (
    HEARTBEAT,
    RUN,
    DamagedRunFile,
    Heartbeat,
    RunFile,
    RunStart,
    note_end,
    read_git_commit,
    read_run,
    write_heartbeat,
    write_run,
)

SECONDS = 10.0  # between two heartbeats
PLACE = ('work_dir', 'launcher', 'resume', 'log_level')  # keys that make no other training
SKEW = 60.0  # seconds by which clocks of two hosts may differ


@HOOKS.register_module()
class RunRecordHook(Hook):
    """Hook that writes ``run.json`` and, every few seconds, ``heartbeat.json`` into the folder of a run.

    ``tools/runs.py`` reads them, see :mod:`mae_toolkit.run_files` for what they hold. A file that cannot be written is
    a warning, and the run goes on. How a run ended with an error is noted by :func:`record_failure`.

    Args:
        seconds: Least time between two heartbeats.
    """

    priority = 'LOWEST'

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self._last = 0.0
        self._is_warned = False

    def before_train(self, runner: Runner) -> None:
        """Add this start to ``run.json``."""
        hosts = len(set(all_gather_object(socket.gethostname())))
        if is_main_process():
            self._try_to_write(runner, lambda: _add_start(runner, hosts))
            self._beat(runner, runner.iter)

    @master_only
    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Write a heartbeat if the last one is some seconds old."""
        if time.monotonic() - self._last >= self.seconds:
            self._beat(runner, runner.iter + 1)

    @master_only
    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Write a heartbeat in long validations, too."""
        if runner.iter and time.monotonic() - self._last >= self.seconds:
            self._beat(runner, runner.iter)

    @master_only
    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Write a heartbeat, so that a run that ends with this checkpoint is shown as far as it came."""
        self._beat(runner, checkpoint['meta']['iter'])

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Note that the run is finished, or that it was stopped before its end."""
        self._beat(runner, runner.iter)
        status = 'finished' if runner.iter >= runner.max_iters else 'stopped'
        self._try_to_write(runner, lambda: note_end(runner.work_dir, time.time(), status))

    def _beat(self, runner: Runner, done: int) -> None:
        self._last = time.monotonic()
        losses = runner.message_hub.log_scalars.get('train/loss')
        loss = float(losses.current()) if losses is not None else None
        speed = next((hook for hook in runner.hooks if isinstance(hook, SpeedHook)), None)
        beat = Heartbeat(
            time=time.time(),
            iteration=done,
            epoch=runner.epoch,
            loss=loss if loss is None or math.isfinite(loss) else None,
            images_per_s=speed.latest.get('speed/images_per_s') if speed else None,
            host=socket.gethostname(),
            pid=os.getpid(),
        )
        self._try_to_write(runner, lambda: write_heartbeat(runner.work_dir, beat))

    def _try_to_write(self, runner: Runner, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            if not self._is_warned:
                runner.logger.warning(f'What tools/runs.py shows of this run cannot be written: {error}; it goes on.')
            self._is_warned = True


@contextmanager
def record_failure(folder: str | Path) -> Iterator[None]:
    """Note in ``run.json`` of a folder the error that ends a ``with`` block, in whichever process it is raised.

    A run that ends because it was told to is noted as ``'preempted'``.

    Args:
        folder: The folder of the run.
    """
    began = time.time()
    try:
        yield
    except BaseException as error:
        _note_error(folder, error, began)
        raise


def _note_error(folder: str | Path, error: BaseException, began: float) -> None:
    """Note an error; what hinders that must not hide it."""
    try:
        run = read_run(folder)
        if run is None or not run.starts or run.starts[-1].time < began - SKEW:  # it has not come to its start
            return
        if isinstance(error, Preempted):
            note_end(folder, time.time(), 'preempted')
        else:
            note_end(folder, time.time(), 'failed', f'{type(error).__name__}: {first_line(error)}')
    except (OSError, DamagedRunFile):
        return


def hash_config(cfg: Any) -> str:
    """Hash the settings of a config but for those of its place: equal for equal trainings."""
    left_out = (*PLACE, 'load_from') if cfg.get('resume') else PLACE  # then load_from names the run's own checkpoint
    plain = {key: value for key, value in to_plain(cfg).items() if key not in left_out}
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=repr).encode()).hexdigest()[:12]


def _add_start(runner: Runner, hosts: int) -> None:
    for name in (RUN, HEARTBEAT):  # a start that was killed meanwhile
        remove_partial(runner.work_dir, name)
    try:
        run = read_run(runner.work_dir)
    except DamagedRunFile as error:
        runner.logger.warning(f'{error}')
        run = None
    by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
    given = RunFile(
        config=str(runner.cfg.filename or ''),
        config_hash=hash_config(runner.cfg),
        max_iters=runner.max_iters,
        max_epochs=runner.max_epochs if by_epoch else None,
        iterations_per_epoch=len(runner.train_dataloader) if by_epoch else None,
    )
    is_on_gpu = torch.cuda.is_available()
    start = RunStart(
        time=time.time(),
        command=sys.argv,
        host=socket.gethostname(),
        pid=os.getpid(),
        iteration=runner.iter,
        ranks=get_world_size(),
        hosts=hosts,
        device=torch.cuda.get_device_name() if is_on_gpu else 'cpu',
        job=os.environ.get('SLURM_JOB_ID'),
        commit=read_git_commit(Path(mae_toolkit.__file__).parent),
        versions=_list_versions(),
        log=str(runner.timestamp),
    )
    given.starts = [*(run.starts if run is not None and runner.iter else ()), start]  # a new training begins a new list
    write_run(runner.work_dir, given)


def _list_versions() -> dict[str, str]:
    cuda = {'cuda': torch.version.cuda} if torch.version.cuda else {}
    return {
        'python': platform.python_version(),
        'torch': torch.__version__,
        'mmengine': mmengine.__version__,
        'mae_toolkit': mae_toolkit.__version__,
        **cuda,
    }
