"""Draw the curves of losses and metrics."""

import time
from pathlib import Path
from typing import Any

from mmengine.dist import master_only
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner

from mae_toolkit.registry import HOOKS
from mae_toolkit.visualization import draw_losses, draw_metrics, read_scalars


@HOOKS.register_module()
class LossCurveHook(Hook):
    """Hook that draws ``loss.png``, and ``metric.png`` where a metric is validated, over all resumed runs.

    They are drawn after validations and at the end of training.

    Args:
        seconds: Least time between two drawings during the training, as one takes about as long as a few steps.
    """

    priority = 'LOWEST'

    def __init__(self, seconds: float = 10.0) -> None:
        self.seconds = seconds
        self._last = time.monotonic()

    def before_train(self, runner: Runner) -> None:
        """Begin to measure the time."""
        self._last = time.monotonic()

    @master_only
    def after_val_epoch(self, runner: Runner, metrics: dict[str, Any] | None = None) -> None:
        """Draw what was logged so far; not for a test without training."""
        if runner.iter and time.monotonic() - self._last >= self.seconds:
            self._draw(runner)
            self._last = time.monotonic()

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Draw the curve of the whole training."""
        self._draw(runner)

    def _draw(self, runner: Runner) -> None:
        folder = Path(runner.work_dir)
        series = read_scalars(folder)
        draw_losses(series, folder / 'loss.png', folder.name)
        draw_metrics(series, folder / 'metric.png', folder.name, _find_best(runner))


def _find_best(runner: Runner) -> str | None:
    """Return the metric by which the best checkpoint is kept, if there is one."""
    hook = next((hook for hook in runner.hooks if isinstance(hook, CheckpointHook)), None)
    names = getattr(hook, 'key_indicators', None) or []
    return names[0] if names else None
