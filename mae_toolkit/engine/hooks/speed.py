"""Measure the speed of a run, and name the processes that slow it down."""

import json
import math
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
from mmengine.dist import all_gather, all_gather_object, get_world_size, is_main_process
from mmengine.hooks import Hook, LoggerHook
from mmengine.optim import AmpOptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from mae_toolkit.argument_ranges import HOOK, check_ranges
from mae_toolkit.arguments import Number, check_value
from mae_toolkit.device_peaks import find_peak
from mae_toolkit.engine._mmengine import get_accumulative_counts
from mae_toolkit.engine.distributed import unwrap
from mae_toolkit.engine.fsdp import whole_model
from mae_toolkit.engine.step_clock import StepClock
from mae_toolkit.engine.step_flops import copy_to_cpu, count_flops_per_image
from mae_toolkit.engine.stragglers import RankTimes, StragglerWatch, find_stragglers
from mae_toolkit.printing import first_line
from mae_toolkit.registry import HOOKS

INTERVAL = 50  # where there is no LoggerHook
RANKS_FILE = 'ranks.jsonl'  # beside scalars.json
MOST_RANKS = 16  # whose times are curves of their own in TensorBoard


@HOOKS.register_module()
class SpeedHook(Hook):
    """Hook that measures, over each interval, how fast a run is and what its processes wait for.

    It logs, as scalars of the run:

    - ``speed/images_per_s`` of all processes,
    - ``speed/step_time``: mean seconds of a step, ``speed/data_time``: those of it that the processes wait for data on
      average, ``speed/data_time_max``: of the process that waits longest,
    - ``speed/peak_share``: the operations that the model needs (forward and backward pass, without what is computed
      twice to save memory) over those that the GPUs could do at their peak; only for GPUs that
      :mod:`~mae_toolkit.device_peaks` knows, and not for detectors and segmenters,
    - ``speed/memory_gb``: of the process that takes most: the most that its GPU held in the interval, or on a CPU what
      the process holds,
    - ``train/grad_norm`` before the optimizer's last step of the interval, unless that step was skipped; where the
      config clips gradients, MMEngine logs it,

    and with several processes, up to 16 of them, ``ranks/data_time/<rank>`` and ``ranks/forward_time/<rank>``.
    ``ranks.jsonl`` beside the scalars then has host, times and memory of each process. The first step of a run, which
    compiles and starts, belongs to no interval, and no interval counts validations. A step is an iteration: with
    accumulated gradients, several of them make one step of the optimizer.

    A process that takes longer for its data and its forward pass than ``factor`` times the median, in ``windows``
    intervals in a row, is named in the log once.

    Args:
        interval: Iterations between two measurements; that of the ``LoggerHook`` if None.
        factor: How many times the median a straggler takes.
        windows: Intervals in a row after which it is named.
    """

    priority = 'LOWEST'  # so that a step ends after the other hooks, and what follows is waiting for data

    def __init__(self, interval: int | None = None, factor: float = 1.5, windows: int = 3) -> None:
        if interval is not None:
            check_ranges('SpeedHook: ', dict(interval=interval), HOOK)
        check_value('SpeedHook: factor', factor, Number(1, above=True))
        check_value('SpeedHook: windows', windows, Number(1, whole=True))
        self.interval = interval
        self.latest: dict[str, float] = {}
        self._clock, self._watch = StepClock(), StragglerWatch(factor, windows)
        self._hosts: list[str] = []
        self._handle: Any = None
        self._copied: nn.Module | None = None  # until its operations are counted
        self._flops_per_image = self._peak = 0.0
        self._is_started = False
        self._grad_norm: Tensor | None = None
        self._memory = 0.0

    def before_run(self, runner: Runner) -> None:
        """Find the peak of the device, and copy the model whose operations will be counted."""
        if not hasattr(runner.optim_wrapper, 'update_params'):  # a test or validation alone
            return
        self._peak = _find_device_peak(runner.optim_wrapper)
        if not self._peak:
            return
        with whole_model(runner.model):
            if is_main_process():
                with _tolerate(runner):
                    self._copied = copy_to_cpu(unwrap(runner.model))

    def before_train(self, runner: Runner) -> None:
        """Begin to time forward passes and to look at gradients."""
        if self.interval is None:
            logger = next((hook for hook in runner.hooks if isinstance(hook, LoggerHook)), None)
            self.interval = logger.interval if logger else INTERVAL
        self._hosts = all_gather_object(socket.gethostname())
        self._clock.watch_forward(runner.model)
        optimizer = getattr(runner.optim_wrapper, 'optimizer', None)  # several optimizers have none of this name
        if optimizer is not None:
            self._handle = optimizer.register_step_pre_hook(lambda *_: self._before_step(runner))
        self._is_started = False

    def before_train_epoch(self, runner: Runner) -> None:
        """Begin to wait for the first batch."""
        self._clock.mark()

    def after_val(self, runner: Runner) -> None:
        """Begin to wait for the next batch."""
        self._clock.mark()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Note that the batch is there; count the operations of the first one."""
        self._clock.begin_step()
        if self._copied is not None:
            self._count_flops(runner, data_batch)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Note that the step has ended, and log the interval that ends with it."""
        self._clock.end_step(_count_images(data_batch))
        if not self._is_started:
            self._is_started = True
            self._clock.restart()
        elif self._ends_interval(runner):
            self._log(runner)
            self._clock.restart()

    def after_train(self, runner: Runner) -> None:
        """Leave model and optimizer as they were."""
        self._clock.release()
        if self._handle is not None:
            self._handle.remove()

    def _ends_interval(self, runner: Runner) -> bool:
        return self.every_n_train_iters(runner, self.interval) or runner.iter + 1 == runner.max_iters

    def _before_step(self, runner: Runner) -> None:
        """Look at gradients and memory before the optimizer's last step of an interval, without waiting for them."""
        left = -(runner.iter + 1) % self.interval if runner.max_iters > runner.iter + 1 else 0
        if left >= get_accumulative_counts(runner.optim_wrapper):  # another step comes before the interval ends
            return
        self._grad_norm = None
        if torch.cuda.is_available():  # LoggerHook forgets the maximum when it logs
            self._memory = max(self._memory, torch.cuda.max_memory_allocated())
        if not _logs_grad_norm(runner):
            self._grad_norm = _compute_grad_norm(runner.optim_wrapper.optimizer)

    def _count_flops(self, runner: Runner, batch: Any) -> None:
        """Count the operations for an image of the first batch on the CPU, and forget the copy of the model."""
        copied, self._copied = self._copied, None
        if not isinstance(batch, dict) or 'imgs' not in batch:  # a detector's
            return
        with _tolerate(runner):
            self._flops_per_image = count_flops_per_image(copied, batch)

    def _log(self, runner: Runner) -> None:
        """Gather the measurements of all processes, and log them."""
        clock = self._clock
        steps = max(clock.steps, 1)
        mine = [clock.seconds / steps, clock.waited / steps, clock.read_forward() / steps]
        mine += [float(clock.images), clock.seconds, self._measure_memory()]
        rows = [row.tolist() for row in all_gather(torch.tensor(mine, dtype=torch.float64))]
        times = [RankTimes(*row[:3]) for row in rows]
        self.latest = self._summarize(rows)
        scalars = self.latest | self._read_grad_norm()
        if 1 < len(rows) <= MOST_RANKS:
            scalars |= {f'ranks/data_time/{rank}': one.data for rank, one in enumerate(times)}
            scalars |= {f'ranks/forward_time/{rank}': one.forward for rank, one in enumerate(times)}
        runner.visualizer.add_scalars(scalars, step=runner.iter + 1)
        slow = self._watch.update(times)
        if is_main_process():
            for one in slow:
                runner.logger.warning(one.describe(self._hosts[one.rank], self._watch.windows))
            if len(rows) > 1:
                self._write_ranks(runner, times, rows)

    def _summarize(self, rows: list[list[float]]) -> dict[str, float]:
        """Compute the scalars of an interval from the measurements of all processes."""
        step, data, _, images, seconds, memory = zip(*rows, strict=True)
        rate = sum(images) / max(*seconds, 1e-9)
        scalars = {
            'speed/images_per_s': rate,
            'speed/step_time': max(step),
            'speed/data_time': sum(data) / len(data),
            'speed/data_time_max': max(data),
            'speed/memory_gb': max(memory),
        }
        if self._peak and self._flops_per_image:
            scalars['speed/peak_share'] = rate * self._flops_per_image / (self._peak * get_world_size())
        return scalars

    def _read_grad_norm(self) -> dict[str, float]:
        norm, self._grad_norm = self._grad_norm, None
        value = float('nan') if norm is None else norm.item()
        return {'train/grad_norm': value} if math.isfinite(value) else {}

    def _measure_memory(self) -> float:
        """Return the 10**9 bytes that this process took on its GPU, or has on the CPU."""
        if not torch.cuda.is_available():
            return psutil.Process().memory_info().rss / 1e9
        most, self._memory = max(self._memory, torch.cuda.max_memory_allocated()), 0.0
        return most / 1e9

    def _write_ranks(self, runner: Runner, times: list[RankTimes], rows: list[list[float]]) -> None:
        file = Path(runner.log_dir) / 'vis_data' / RANKS_FILE
        columns = {
            'step': runner.iter + 1,
            'host': self._hosts,
            'step_time': [round(one.step, 6) for one in times],
            'data_time': [round(one.data, 6) for one in times],
            'forward_time': [round(one.forward, 6) for one in times],
            'memory_gb': [round(row[-1], 3) for row in rows],
            'stragglers': [one.rank for one in find_stragglers(times, self._watch.factor)],
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file, 'a') as log:
            log.write(json.dumps(columns) + '\n')


@contextmanager
def _tolerate(runner: Runner) -> Iterator[None]:
    """Let the training go on where its operations cannot be counted: a model of the user's own may do anything."""
    try:
        yield
    except Exception as error:
        runner.logger.warning(
            f'The operations of the model cannot be counted on a CPU ({type(error).__name__}: '
            f'{first_line(error)}), so speed/peak_share is not logged.'
        )


def _find_device_peak(optim_wrapper: Any) -> float:
    """Return the FLOP/s that this process's GPU reaches in the type of the training; 0 if they are not known."""
    if not torch.cuda.is_available():
        return 0.0
    peak = find_peak(torch.cuda.get_device_properties(torch.cuda.current_device()).name)
    dtype = getattr(optim_wrapper, 'dtype', None) or torch.float32
    if isinstance(optim_wrapper, AmpOptimWrapper):
        dtype = optim_wrapper.cast_dtype or torch.float16
    allow_tf32 = torch.get_float32_matmul_precision() != 'highest'
    return (peak.flops_per_second(dtype, allow_tf32) or 0.0) if peak else 0.0


def _logs_grad_norm(runner: Runner) -> bool:
    """Return whether MMEngine logs the norm of the gradients, which it does where it clips by it."""
    return 'train/grad_norm' in runner.message_hub.log_scalars


def _compute_grad_norm(optimizer: Any) -> Tensor | None:
    """Compute the norm of all gradients on the device; None without any, as in a step that is skipped."""
    grads = [p.grad for group in optimizer.param_groups for p in group['params'] if p.grad is not None]
    if not grads:
        return None
    norm = nn.utils.get_total_norm(grads)
    norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
    scale = getattr(optimizer, 'grad_scale', None)  # of a loss scaler that leaves the division to the optimizer
    return norm if scale is None else norm / scale.to(norm.device)


def _count_images(batch: Any) -> int:
    """Return the number of images of a batch of ours or of MMDetection and MMSegmentation; 0 of any other."""
    found = next((batch[key] for key in ('imgs', 'inputs') if key in batch), ()) if isinstance(batch, dict) else ()
    return len(found)
