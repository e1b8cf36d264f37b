"""Roll a run back when its loss rises far above what it was, and skip the data that led to it."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, broadcast_object_list, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mae_toolkit.argument_ranges import HOOK, check_ranges
from mae_toolkit.checkpoints.files import newest_checkpoint, read_meta
from mae_toolkit.engine._mmengine import get_accumulative_counts, get_resume
from mae_toolkit.engine.hooks.sharded_checkpoint import ShardedCheckpointHook
from mae_toolkit.engine.loops import EpochTrainLoop
from mae_toolkit.engine.skips import FILE, LossSpike, Range, measure_deviation, merge_ranges, read_skips, write_skips
from mae_toolkit.errors import UserError
from mae_toolkit.registry import HOOKS

HISTORY = 'loss_spike_history'  # info of the message hub, and so in checkpoints


@HOOKS.register_module()
class LossSpikeHook(Hook):
    """Hook that takes a run back to its last checkpoint when the loss spikes, and passes over the batches since then.

    A value is a spike if it is more than ``deviations`` robust standard deviations *and* ``factor`` times above the
    median of the last ``window`` values. The run then goes on from the checkpoint before it, within the same process,
    and passes over all iterations from there up to the spike: they count, also for schedules, and their batches are
    neither computed nor averaged. What follows is bit for bit what a run does that never computes these iterations
    (``skip``). Which ones are passed over is in ``skipped_iterations.json`` of the work directory, which a resumed run
    reads.

    Values that are not finite are no spikes: they are the business of :class:`NaNGuardHook`, and of loss scaling.

    All processes decide by the mean over them. It takes :func:`mae_toolkit.apis.train` (``tools/train.py``), and a loop
    over epochs.

    Args:
        monitor: ``'loss'``, or ``'grad_norm'`` of a config that clips gradients.
        window: Values that a new one is compared with.
        warmup: Values before the first comparison.
        deviations: Standard deviations above the median.
        factor: Ratio to the median.
        max_rollbacks: Number of rollbacks after which the next spike stops the run.
        skip: Ranges (first, end) of iterations to pass over, without the end, from the beginning, counted from 0.

    Raises:
        UserError: If a setting is out of range, or the loop has no epochs; at a spike, if there is no checkpoint before
            it, or there were too many.
    """

    priority = 'ABOVE_NORMAL'  # before the hooks that save

    def __init__(
        self,
        monitor: str = 'loss',
        window: int = 128,
        warmup: int = 32,
        deviations: float = 8.0,
        factor: float = 1.5,
        max_rollbacks: int = 5,
        skip: Sequence[Sequence[int]] = (),
    ) -> None:
        if monitor not in ('loss', 'grad_norm'):
            raise UserError(f"LossSpikeHook: monitor={monitor!r} must be 'loss' or 'grad_norm'.")
        given = dict(window=window, warmup=warmup, deviations=deviations, factor=factor, max_rollbacks=max_rollbacks)
        check_ranges('LossSpikeHook: ', given, HOOK)
        if any(len(one) != 2 or not 0 <= one[0] < one[1] for one in skip):
            raise UserError(f'LossSpikeHook: skip={skip!r} must be pairs (first, end) with 0 <= first < end.')
        if warmup > window:
            raise UserError(f'LossSpikeHook: warmup={warmup} is more than window={window}: lower it.')
        self.monitor, self.window, self.warmup = monitor, window, warmup
        self.deviations, self.factor, self.max_rollbacks = deviations, factor, max_rollbacks
        self.skip = merge_ranges(skip)
        self._found: list[Range] = []

    def before_train(self, runner: Runner) -> None:
        """Tell the loop what to pass over; a run that begins anew forgets the spikes of one before it."""
        if not isinstance(runner.train_loop, EpochTrainLoop):
            raise UserError('LossSpikeHook passes over batches of EpochTrainLoop: set train_cfg.type, or leave it out.')
        found: list[Any] = [[]]
        if is_main_process():
            if get_resume(runner):
                found = [read_skips(runner.work_dir)]
            else:
                (Path(runner.work_dir) / FILE).unlink(missing_ok=True)
        broadcast_object_list(found)
        self._found = merge_ranges(found[0])
        runner.train_loop.skips = merge_ranges([*self.skip, *self._found])

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Compare the value of this step with those before it.

        Raises:
            LossSpike: If it is a spike.
        """
        value = self._read(runner, outputs)
        if not math.isfinite(value):  # what NaNGuardHook stops or skips, or a scale of float16 that was too large
            return
        history = list(runner.message_hub.runtime_info.get(HISTORY, []))
        if len(history) >= self.warmup:
            deviation, ratio = measure_deviation(value, history)
            if deviation > self.deviations and ratio > self.factor:
                raise self._roll_back(runner, f'{value:.4g}, {ratio:.3g} times the median of {len(history)} steps')
        runner.message_hub.update_info(HISTORY, [*history, value][-self.window :])

    def _read(self, runner: Runner, outputs: Any) -> float:
        """Return the mean of the monitored value over all processes."""
        if self.monitor == 'loss':
            value = outputs['loss'].detach().double()
        else:
            scalars = runner.message_hub.log_scalars
            if 'train/grad_norm' not in scalars:
                raise UserError("LossSpikeHook: monitor='grad_norm' needs optim_wrapper.clip_grad, which measures it.")
            device = next(runner.model.parameters()).device
            value = torch.tensor(float(scalars['train/grad_norm'].current()), dtype=torch.float64, device=device)
        all_reduce(value, 'mean')
        return float(value)

    def _roll_back(self, runner: Runner, what: str) -> LossSpike:
        """Note what the run passes over from now on, and return the exception that takes it back."""
        step = runner.iter + 1
        sentence = f'The {self.monitor} spikes at iteration {step}: {what}'
        if len(self._found) >= self.max_rollbacks:
            raise UserError(
                f'{sentence}, after {self.max_rollbacks} rollbacks: lower the learning rate, clip gradients, or look '
                f'at the data; {FILE} in {runner.work_dir} lists what was skipped.'
            )
        for hook in runner.hooks:
            if isinstance(hook, ShardedCheckpointHook):
                hook.finish(runner)
        found = [_find_checkpoint(runner)] if is_main_process() else [None]
        broadcast_object_list(found)
        if found[0] is None:
            raise UserError(f'{sentence}, and there is no checkpoint before it: save more often, or raise warmup.')
        checkpoint, first = found[0]
        counts = get_accumulative_counts(runner.optim_wrapper)
        end = -(-step // counts) * counts  # not between two steps of the optimizer
        if is_main_process():
            write_skips(runner.work_dir, merge_ranges([*self._found, (first, end)]))
        return LossSpike(
            f'{sentence}. The run goes on from {checkpoint}, without the iterations {first + 1} to {end}.',
            checkpoint,
        )


def _find_checkpoint(runner: Runner) -> tuple[str, int] | None:
    """Return the last checkpoint of the run, and the number of iterations that it has."""
    last = runner.message_hub.runtime_info.get('last_ckpt')
    path = last if isinstance(last, str) and Path(last).exists() else newest_checkpoint(runner.work_dir)
    return None if path is None else (str(path), read_meta(path)['iter'])
