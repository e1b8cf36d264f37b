"""Fit the length of a training, and its schedules, to wall time."""

import copy
import gc
import itertools
import json
import logging
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.logging import print_log
from mmengine.optim.scheduler.param_scheduler import INF

from mae_toolkit.checkpoints.files import newest_checkpoint
from mae_toolkit.engine._mmengine import compute_losses
from mae_toolkit.engine.distributed import unwrap
from mae_toolkit.engine.runner import Runner
from mae_toolkit.engine.schedules import COUNTED
from mae_toolkit.engine.timed_steps import time_steps
from mae_toolkit.errors import UserError
from mae_toolkit.files import atomic_write
from mae_toolkit.printing import format_count

FILE = 'length.json'
MOST_MINUTES = 525_600  # a year
PROBE_SHARE, PROBE_SECONDS = 0.05, 20.0  # of the training, and at most: how long they are timed
VALIDATION_BATCHES = 3
FEWEST_STEPS = 4  # of a training: two to warm up, and as many after them
ITERATIONS = 1000  # between two validations of a loop over iterations that names no number


@dataclass(frozen=True)
class TimedLength:
    """Length of a training that fits into some minutes, as in ``length.json`` of its folder.

    Attributes:
        minutes: Wall time that was asked for.
        steps: Iterations of the training.
        iterations_per_epoch: Iterations of an epoch.
        seconds_per_step: Measured seconds of an iteration, with its data.
        seconds_per_validation: Estimated seconds of a validation; 0 without one.
        seconds_to_build: Measured seconds until model and data were built.
    """

    minutes: float
    steps: int
    iterations_per_epoch: int
    seconds_per_step: float
    seconds_per_validation: float
    seconds_to_build: float = 0.0


def fit_to_minutes(cfg: Config, work_dir: str | Path, minutes: float) -> TimedLength:
    """Change a config so that its training, with its validations, takes about so many minutes.

    The first steps are timed in a run of their own, and the number of steps is fixed by them: the schedules end when
    the time ends, see :func:`set_length`. The number is kept in ``length.json`` of the work directory, so that a
    resumed training has the same one, whatever else the machine does then. Example::

        cfg = load_config('configs/pretrain/quickstart.py')
        fit_to_minutes(cfg, 'work_dirs/first', minutes=5)
        train(cfg, 'work_dirs/first')

    Args:
        cfg: Config of a training, changed in place.
        work_dir: Folder of the training.
        minutes: Wall time, above 0 and up to a year.

    Raises:
        UserError: If the minutes are out of range, or the file is damaged.
    """
    check_minutes(minutes)
    file = Path(work_dir) / FILE
    kept = [_read(file) if is_main_process() else None]
    broadcast_object_list(kept)
    length = kept[0]
    if length is not None and length.minutes != minutes:
        if newest_checkpoint(work_dir) is None:
            length = None  # nothing was trained yet, so that the length can still be another
        else:
            kept_length = f'{format_count(length.steps, "step")} for {format_count(length.minutes, "minute")}'
            print_log(
                f'{file}: the training keeps its length, {kept_length}; --minutes {minutes:g} changes nothing.',
                'current',
                logging.WARNING,
            )
    if length is None:
        measured = [time_training(cfg, work_dir, minutes)]
        broadcast_object_list(measured)
        length = measured[0]
        if is_main_process():
            atomic_write(file, json.dumps(asdict(length), indent=2) + '\n')
    set_length(cfg, length.steps, length.iterations_per_epoch)
    print_log(
        f'{format_count(length.minutes, "minute")}: {format_count(length.steps, "step")} of '
        f'{length.seconds_per_step:.3g} s, {length.steps / length.iterations_per_epoch:.3g} epochs.',
        'current',
    )
    return length


def restore_length(cfg: Config, work_dir: str | Path) -> None:
    """Give a config the length of a training that was fitted to minutes before; without one, nothing changes.

    Args:
        cfg: Config of a training that is resumed, changed in place.
        work_dir: Folder of the training.

    Raises:
        UserError: If ``length.json`` in the folder is damaged.
    """
    kept = [_read(Path(work_dir) / FILE) if is_main_process() else None]
    broadcast_object_list(kept)
    if kept[0] is not None:
        set_length(cfg, kept[0].steps, kept[0].iterations_per_epoch)


def check_minutes(minutes: float) -> None:
    """Refuse minutes that are no time to train.

    Args:
        minutes: Wall time.

    Raises:
        UserError: If it is 0 or less, or more than a year.
    """
    if isinstance(minutes, bool) or not 0 < minutes <= MOST_MINUTES:
        raise UserError(f'--minutes {minutes} is no time to train: give more than 0 and up to {MOST_MINUTES}, a year.')


def set_length(cfg: Config, steps: int, iterations_per_epoch: int) -> None:
    """Change the length of a training to a number of iterations, in place, and stretch its schedules to it.

    A training over epochs ends within its last epoch. What schedules count (begin, end, milestones, ...) keeps its
    share of the training and is counted in iterations from now on; a warm-up takes two iterations at least. In a
    shorter training, validations and checkpoints are as many as before.

    Args:
        cfg: Config of a training.
        steps: Iterations of the training.
        iterations_per_epoch: Iterations of an epoch.
    """
    loop = cfg.train_cfg
    before = _count_iterations(loop, iterations_per_epoch)
    counts = cfg.optim_wrapper.get('accumulative_counts', 1)
    steps = max(steps, FEWEST_STEPS) // counts * counts or counts
    epochs, factor = ceil(steps / iterations_per_epoch), steps / before
    if _is_by_epoch(loop):
        loop.pop('by_epoch', None)
        loop.update(type='mae_toolkit.EpochTrainLoop', max_epochs=epochs, end_iter=steps)
        loop.val_interval = _shorten(loop.get('val_interval', 1), factor, epochs)
    else:
        loop.max_iters = steps
        loop.val_interval = _shorten(loop.get('val_interval', ITERATIONS), factor, steps)
    checkpoint = (cfg.get('default_hooks') or {}).get('checkpoint')
    if checkpoint and checkpoint.get('interval', 1) > 0:
        most = epochs if checkpoint.get('by_epoch', True) else steps
        checkpoint.interval = _shorten(checkpoint.get('interval', 1), factor, most)
    schedules = cfg.get('param_scheduler')
    if schedules:
        listed = [schedules] if isinstance(schedules, dict) else schedules
        cfg.param_scheduler = [_stretch(schedule, iterations_per_epoch, before, steps) for schedule in listed]


def _is_by_epoch(loop: Mapping[str, Any]) -> bool:
    return loop.get('max_epochs') is not None


def _count_iterations(loop: Mapping[str, Any], iterations_per_epoch: int) -> int:
    """Return the iterations of a training by the config of its loop."""
    if not _is_by_epoch(loop):
        return loop['max_iters']
    total = loop['max_epochs'] * iterations_per_epoch
    return min(total, loop.get('end_iter') or total)  # which is set where the length is changed a second time


def _shorten(interval: int, factor: float, most: int) -> int:
    """Return an interval that is as large a share of a shorter training; a longer one keeps it."""
    return max(1, min(round(interval * min(factor, 1)), most))


def _stretch(schedule: Mapping[str, Any], iterations_per_epoch: int, before: int, steps: int) -> dict[str, Any]:
    """Return the config of a schedule whose counts keep their shares of a training of another length."""
    unit = iterations_per_epoch if schedule.get('by_epoch', True) else 1
    factor = steps / before
    stretched = {key: value for key, value in schedule.items() if key != 'convert_to_iter_based'}
    if 'Plateau' in str(schedule.get('type')):  # it waits for a metric, and counts what is measured
        return dict(schedule)
    for key in COUNTED:
        value = schedule.get(key)
        if value is None or value == INF:
            continue
        if key in ('end', 'T_max') and value * unit >= before:
            del stretched[key]  # it follows the length of the training
            continue
        many = isinstance(value, list | tuple)
        listed = value if many else [value]
        counts = [min(max(2, round(count * unit * factor)), steps - 1) if count else 0 for count in listed]
        stretched[key] = counts if many else counts[0]
    if 'Exponential' in str(schedule.get('type')) and 'gamma' in schedule:
        stretched['gamma'] = schedule['gamma'] ** (
            1 / (factor * (1 if schedule.get('convert_to_iter_based') else unit))
        )
    return stretched | {'by_epoch': False}


def time_training(cfg: Config, work_dir: str | Path, minutes: float) -> TimedLength:
    """Time the first steps of a training and a few batches of its validation, in a run of its own.

    Example: a command writes a config, times its steps, and then writes the number of steps that fit into it::

        timed = time_training(load_config(path), folder, limit.count_minutes_left())

    Args:
        cfg: Config of the training; it is not changed.
        work_dir: Folder in which that run has one of its own, which is removed.
        minutes: Wall time of the training; timing steps takes a twentieth of it, and 20 s at most.

    Returns:
        What was measured, with as many steps as fit if there are as many validations as in the config.
    """
    begin = time.perf_counter()
    probe = copy.deepcopy(cfg)
    probe.work_dir, probe.load_from, probe.resume = str(Path(work_dir) / 'probe'), None, False
    runner = Runner.from_cfg(probe)
    loader = runner.build_dataloader(probe.train_dataloader)
    built = time.perf_counter() - begin
    most = min(PROBE_SECONDS, PROBE_SHARE * 60 * minutes)
    seconds = _time_run(runner, loader, runner.build_optim_wrapper(probe.optim_wrapper), most)
    validation = _time_validation(runner, probe) if probe.get('val_dataloader') else 0.0
    length = len(loader)
    del runner, loader
    if is_main_process():
        shutil.rmtree(probe.work_dir, ignore_errors=True)
    gc.collect()  # the memory of the device is for the training itself
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    steps = _count_steps(cfg.train_cfg, length, 60 * minutes, seconds, validation)
    return TimedLength(minutes, max(FEWEST_STEPS, steps), length, seconds, validation, built)


def _count_steps(
    loop: Mapping[str, Any], iterations_per_epoch: int, budget: float, seconds: float, validation: float
) -> int:
    """Return how many steps fit into some seconds, with their validations."""
    total = _count_iterations(loop, iterations_per_epoch)
    unit, default = (iterations_per_epoch, 1) if _is_by_epoch(loop) else (1, ITERATIONS)
    span = loop.get('val_interval', default) * unit  # iterations between two validations
    steps = (budget - max(1, total // span) * validation) / seconds  # as many validations as before
    return int(steps if steps <= total else budget / (seconds + validation / span))


def _time_run(runner: Runner, loader: Any, optim_wrapper: Any, most: float) -> float:
    """Return the mean seconds of a training step of a run with its data."""

    def step(batch: Any) -> None:
        runner.model.train_step(batch, optim_wrapper)
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    runner.model.train()
    return time_steps(step, loader, most, lambda: time.perf_counter())


@torch.no_grad()
def _time_validation(runner: Runner, cfg: Config) -> float:
    """Estimate the seconds of a validation by its first batches."""
    loader = runner.build_dataloader(cfg.val_dataloader)
    model = unwrap(runner.model).eval()
    times = [time.perf_counter()]
    for _, batch in zip(range(VALIDATION_BATCHES), loader):
        compute_losses(model, batch)
        times.append(time.perf_counter())
    return min(after - before for before, after in itertools.pairwise(times)) * len(loader)


def _read(file: Path) -> TimedLength | None:
    """Read the length of a training that was fitted before."""
    try:
        return TimedLength(**json.loads(file.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise UserError(f'{file} is damaged ({error}): delete it, and the steps are timed again.') from None
