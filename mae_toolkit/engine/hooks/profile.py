"""Record what the time of a few training steps is spent on."""

from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.profiler import ProfilerActivity, profile, record_function

from mae_toolkit.errors import UserError
from mae_toolkit.files import atomic_write
from mae_toolkit.printing import format_count
from mae_toolkit.registry import HOOKS

FOLDER, TRACE, TABLE = 'profile', 'trace.json.gz', 'operators.txt'
ROWS = 25  # of the table


@HOOKS.register_module()
class ProfileHook(Hook):
    """Hook that records some steps of the first process with ``torch.profiler``, without an effect on the training.

    It writes ``profile/trace.json.gz`` into the work directory, which https://ui.perfetto.dev and ``chrome://tracing``
    show, and ``profile/operators.txt``, a table of the operators that take most time.

    Args:
        first: Number of steps of this start of the run before those that are recorded; the first ones compile, choose
            algorithms and start workers.
        last: Number of steps after which recording ends.

    Raises:
        UserError: If that is not at least one step.
    """

    priority = 'VERY_LOW'

    def __init__(self, first: int = 10, last: int = 15) -> None:
        if not 0 <= first < last:
            raise UserError(
                f'Steps {first}:{last} cannot be profiled: give the first and the one after the last, such as 10:15.'
            )
        self.first, self.last = first, last
        self._done = 0
        self._profiler: profile | None = None
        self._step: record_function | None = None

    def before_train(self, runner: Runner) -> None:
        """Begin to record, if it is from the first step on."""
        self._done = 0
        if self.first == 0:
            self._start()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Mark the beginning of a step whose batch is there."""
        if self._profiler is not None:
            self._step = record_function('training step')
            self._step.__enter__()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Start or stop recording after a step, so that waiting for the next batch belongs to what is recorded."""
        self._done += 1
        if self._step is not None:
            self._step.__exit__(None, None, None)
            self._step = None
        if self._done == self.last:
            self._stop(runner)
        elif self._done == self.first:
            self._start()

    def after_train(self, runner: Runner) -> None:
        """Write what was recorded until the run ended."""
        if self._done <= self.first and is_main_process():
            runner.logger.warning(
                f'The run ended after {format_count(self._done, "step")}, and {self.first} come before those that were '
                'to be profiled: there is no trace; choose earlier ones with --profile-steps.'
            )
        self._stop(runner)

    def _start(self) -> None:
        if is_main_process():
            on_gpu = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
            self._profiler = profile(activities=[ProfilerActivity.CPU, *on_gpu])
            self._profiler.start()

    def _stop(self, runner: Runner) -> None:
        """End to record, and write the trace and the table."""
        if self._profiler is None:
            return
        profiler, self._profiler = self._profiler, None
        profiler.stop()
        if self._done <= self.first:
            return
        folder = Path(runner.work_dir) / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(folder / TRACE))
        by = 'self_device_time_total' if torch.cuda.is_available() else 'self_cpu_time_total'
        table = profiler.key_averages().table(sort_by=by, row_limit=ROWS, max_name_column_width=70)
        steps = f'steps {self.first + 1} to {self._done} of a start at iteration {runner.iter + 1 - self._done}'
        atomic_write(folder / TABLE, f'{steps}\n{table}\n')
        runner.logger.info(f'The profile of {steps} is in {folder}.')
