"""Draw the loss curve."""

from pathlib import Path
from typing import Any

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mae_toolkit.registry import HOOKS
from mae_toolkit.visualization import draw_losses, read_scalars


@HOOKS.register_module()
class LossCurveHook(Hook):
    """Hook that draws ``loss.png`` after each validation and at the end of training, over all resumed runs."""

    priority = 'LOWEST'

    @master_only
    def after_val_epoch(self, runner: Runner, metrics: dict[str, Any] | None = None) -> None:
        """Draw what was logged so far; not for a test without training."""
        if runner.iter:
            self._draw(runner)

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Draw the curve of the whole training."""
        self._draw(runner)

    def _draw(self, runner: Runner) -> None:
        draw_losses(read_scalars(runner.work_dir), Path(runner.work_dir) / 'loss.png', Path(runner.work_dir).name)
