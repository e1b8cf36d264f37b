"""Measure how long a training waits for its checkpoints: one file, and shards written while it waits or goes on."""

import os
import shutil
import socket
import statistics
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import all_reduce, barrier, get_world_size, is_main_process
from mmengine.hooks import Hook

from mae_toolkit.checkpoints.publishing import publish_folder
from mae_toolkit.engine._mmengine_files import register_atomic_backend
from mae_toolkit.engine.checkpoint_contents import collect_checkpoint
from mae_toolkit.engine.distributed import unwrap
from mae_toolkit.engine.runner import Runner
from mae_toolkit.engine.sharded_writer import ShardedWriter

KINDS = ('file', 'sharded', 'asynchronous')
WARM, PLAIN = 3, 5  # steps that do not count, and those without a save before the first one
RESULT = 'result.pt'


def benchmark_checkpoint(
    cfg: Config, processes: int = 2, runs: int = 5, folder: str | Path = 'work_dirs', device: str | None = None
) -> dict[str, float]:
    """Train, and save checkpoints of each kind in turns.

    Args:
        cfg: Config of a training; its hooks change what is saved, as they would.
        processes: Number of processes on this machine.
        runs: Saves of each kind.
        folder: Folder on the file system that is measured; what is written there is removed.
        device: ``'cuda'`` or ``'cpu'``; where torch finds GPUs, those, if None.

    Returns:
        Medians in seconds: a training ``step``; how much longer the training takes for a save as one ``file``,
        ``sharded`` and ``asynchronous``; of the latter the part for copying the tensors (``copied``), the rest being
        slower steps, and when all is on the disk (``written``). ``megabytes`` of a checkpoint.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix='benchmark_checkpoint_', dir=folder))
    on_gpu = torch.cuda.is_available() if device is None else device == 'cuda'
    try:
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            port = free.getsockname()[1]
        start = torch.multiprocessing.start_processes
        how = 'spawn' if on_gpu else 'fork'  # CUDA does not survive a fork
        start(_train, (cfg.to_dict(), processes, port, runs, str(place), on_gpu), nprocs=processes, start_method=how)
        return torch.load(place / RESULT)
    finally:
        shutil.rmtree(place)


def report(found: dict[str, float]) -> str:
    """Write the result of :func:`benchmark_checkpoint` as lines."""
    names = ('one file', 'sharded, synchronous', 'sharded, asynchronous')
    lines = [f'a step takes {found["step"] * 1e3:.0f} ms; a checkpoint has {found["megabytes"]:.1f} MB']
    lines += [
        f'{name}: the training waits {found[kind] * 1e3:.0f} ms, {found[kind] / found["step"]:.2f} steps'
        for name, kind in zip(names, KINDS, strict=True)
    ]
    lines[-1] += f', {found["copied"] * 1e3:.0f} ms of them for copying the tensors'
    lines[-1] += f'; all is on the disk after {found["written"] * 1e3:.0f} ms'
    return '\n'.join(lines)


def _train(
    rank: int, cfg: dict[str, Any], processes: int, port: int, runs: int, place: str, on_gpu: bool
) -> None:  # in a process of its own
    os.environ |= {'RANK': str(rank), 'LOCAL_RANK': str(rank), 'WORLD_SIZE': str(processes)}
    os.environ |= {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(port)}
    if not on_gpu:
        os.environ['CUDA_VISIBLE_DEVICES'] = ''
    config = Config(cfg)
    config.launcher, config.work_dir, config.resume, config.load_from = 'pytorch', place, False, None
    config.train_cfg = dict(type='IterBasedTrainLoop', max_iters=10**6)
    config.param_scheduler = None
    for name in ('val_cfg', 'val_dataloader', 'val_evaluator', 'test_cfg', 'test_dataloader', 'test_evaluator'):
        config[name] = None
    config.default_hooks = dict(config.get('default_hooks') or {}, checkpoint=None)
    runner = Runner.from_cfg(config)
    hook = _SavesInTurns(runs, Path(place))
    runner.register_hook(hook, 'LOWEST')
    runner.train()
    if is_main_process():
        torch.save(hook.summarize(), Path(place, RESULT))
    barrier()


class _SavesInTurns(Hook):
    """Hook that saves after some iterations, and notes how long the training waits."""

    def __init__(self, runs: int, folder: Path) -> None:
        self.folder = folder
        self.plan = [kind for _ in range(runs + 1) for kind in KINDS]  # the first round does not count
        self.steps: list[float] = []
        self.waited: dict[str, list[float]] = {kind: [] for kind in (*KINDS, 'copied', 'written')}
        self.megabytes = 0.0
        self._seen = 0
        self._flying: list[float] = []  # when the save in the background began, and the steps since
        self._last = perf_counter()

    def before_train(self, runner: Runner) -> None:
        """Make the writer."""
        parameters = {name for name, _ in unwrap(runner.model).named_parameters()}
        self.writer = ShardedWriter(parameters, self._publish)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Note the step, and save if it is time."""
        step, self._seen = self._wait_for_all() - self._last, self._seen + 1
        if self._flying:
            self._flying.append(step)
            self._finish_background()
        elif self._seen > WARM:
            self.steps.append(step)
        if not self._flying and self._seen > WARM + PLAIN and self._seen % 3 == 0:
            if not self.plan:
                runner.train_loop.stop_training = True
            else:
                self._save(runner, self.plan.pop(0))
        self._last = self._wait_for_all()

    def summarize(self) -> dict[str, float]:
        """Return the medians."""
        found = {kind: statistics.median(values[1:]) for kind, values in self.waited.items()}
        return {'step': statistics.median(self.steps), **found, 'megabytes': self.megabytes}

    def _save(self, runner: Runner, kind: str) -> None:
        begin = perf_counter()
        numbers = dict(epoch=0, iter=self._seen)
        if kind == 'file':
            backend = dict(backend=register_atomic_backend())
            runner.save_checkpoint(str(self.folder), 'one.pth', meta=numbers, by_epoch=False, backend_args=backend)
            self._keep(kind, self._wait_for_all() - begin)
            self.megabytes = (self.folder / 'one.pth').stat().st_size / 1e6
            return
        self._remove()
        begin = self._wait_for_all()
        checkpoint = collect_checkpoint(runner, numbers)
        if kind == 'sharded':
            self.writer.write(self.folder / 'one.dcp', checkpoint)
            self._keep(kind, self._wait_for_all() - begin)
        else:
            self.writer.start(self.folder / 'one.dcp', checkpoint)
            self._began = begin
            self._flying = [self._wait_for_all() - begin]

    def _finish_background(self) -> None:
        """Note what a save in the background has cost once all processes have written their parts."""
        done = torch.tensor(float((self.folder / 'one.dcp').exists()))
        all_reduce(done, 'min')
        if not done:
            return
        self._keep('written', self._wait_for_all() - self._began)
        error = self.writer.wait()
        if error is not None:
            raise error
        copied, *steps = self._flying
        self._keep('copied', copied)
        self._keep('asynchronous', copied + sum(steps) - len(steps) * statistics.median(self.steps))
        self._flying = []

    def _keep(self, kind: str, seconds: float) -> None:
        self.waited[kind].append(seconds)

    def _publish(self, folder: Path) -> None:
        if is_main_process():
            publish_folder(folder, dict(epoch=0, iter=0))

    def _remove(self) -> None:
        if is_main_process():
            shutil.rmtree(self.folder / 'one.dcp', ignore_errors=True)

    def _wait_for_all(self) -> float:
        """Return the time once the devices of all processes have come here."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if get_world_size() > 1:
            barrier()
        return perf_counter()
