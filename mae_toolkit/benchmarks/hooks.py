"""Measure what the hooks of a run cost."""

import contextlib
import copy
import functools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner as MMEngineRunner

from mae_toolkit.engine import Runner
from mae_toolkit.engine.hooks import SpeedHook
from mae_toolkit.errors import UserError
from mae_toolkit.planning.table import format_table

WARM_UP = 5  # steps before those that are measured


@dataclass
class HookCost:
    """Seconds that a hook took.

    Attributes:
        seconds: All of them.
        longest: The longest call.
    """

    seconds: float = 0.0
    longest: float = 0.0


@dataclass
class Stopwatch:
    """Times of all hooks while training steps are measured.

    Attributes:
        costs: What each hook took, by the name of its class.
        is_running: Whether calls count.
    """

    costs: dict[str, HookCost] = field(default_factory=dict)
    is_running: bool = False

    def time(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that does what another does, and notes how long it takes."""
        cost = self.costs.setdefault(name, HookCost())

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                taken = perf_counter() - start
                if self.is_running:
                    cost.seconds, cost.longest = cost.seconds + taken, max(cost.longest, taken)

        return timed


class _Enough(Exception):
    """All steps are measured."""


class _MeasuredSteps(Hook):
    """Hook that counts the time from the end of the warm-up on, and ends the training after the last step."""

    priority = 'LOWEST'

    def __init__(self, watch: Stopwatch, steps: int) -> None:
        self.watch, self.steps = watch, steps
        self.seconds = self._start = 0.0
        self._done = 0

    def after_train_iter(
        self, runner: MMEngineRunner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Start or stop the clock."""
        self._done += 1
        if self._done == WARM_UP:
            self.watch.is_running, self._start = True, perf_counter()
        elif self._done == WARM_UP + self.steps:
            self.seconds = perf_counter() - self._start
            raise _Enough


def benchmark_hooks(cfg: Config, steps: int = 200) -> dict[str, Any]:
    """Train for some steps, and time what each hook does before, within and after them.

    The times are those of the host: of a hook that reads a number from a GPU, they include waiting for it.

    Args:
        cfg: Config of a training, which is not changed; it has to have so many steps, and five more.
        steps: Number of steps.

    Returns:
        ``steps``, ``seconds_per_step``, and ``hooks``: by name, ``seconds_per_step``, its ``share`` of a step, and the
        ``longest`` call in seconds.

    Raises:
        UserError: If the training is shorter.
    """
    cfg = copy.deepcopy(cfg)
    watch = Stopwatch()
    measured = _MeasuredSteps(watch, steps)
    with tempfile.TemporaryDirectory() as folder:
        cfg.work_dir = folder
        runner = Runner.from_cfg(cfg)
        for hook in runner.hooks:
            _time_hook(watch, hook)
        runner.register_hook(measured)
        with contextlib.suppress(_Enough):
            runner.train()
        runner.visualizer.close()
    if not measured.seconds:
        raise UserError(f'The training has fewer than {WARM_UP + steps} steps: set --steps, or more epochs.')
    step = measured.seconds / steps
    costs = sorted(watch.costs.items(), key=lambda item: -item[1].seconds)
    hooks = {
        name: {'seconds_per_step': one.seconds / steps, 'share': one.seconds / measured.seconds, 'longest': one.longest}
        for name, one in costs
    }
    return {'steps': steps, 'seconds_per_step': step, 'hooks': hooks}


def _time_hook(watch: Stopwatch, hook: Hook) -> None:
    """Time what a hook does in a step, and what :class:`SpeedHook` does within the forward pass and the optimizer."""
    name = type(hook).__name__
    for part in ('before_train_iter', 'after_train_iter'):
        setattr(hook, part, watch.time(name, getattr(hook, part)))
    if isinstance(hook, SpeedHook):
        hook._before_step = watch.time(name, hook._before_step)  # type: ignore[method-assign]
        for part in ('_enter_on_cpu', '_leave_on_cpu', '_enter_on_gpu', '_leave_on_gpu'):
            setattr(hook._clock, part, watch.time(name, getattr(hook._clock, part)))


def report(result: dict[str, Any]) -> str:
    """Write the result as a table.

    Args:
        result: What :func:`benchmark_hooks` returns.
    """
    rows = [('hook', 'µs per step', 'share of it', 'longest, ms')]
    rows += [
        (name, f'{one["seconds_per_step"] * 1e6:.0f}', f'{one["share"]:.2%}', f'{one["longest"] * 1e3:.1f}')
        for name, one in result['hooks'].items()
    ]
    return f'{result["seconds_per_step"] * 1e3:.2f} ms per step, mean of {result["steps"]}\n{format_table(rows)}'
