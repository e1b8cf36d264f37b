"""The loss curve as a picture."""

from pathlib import Path

from mmengine.dist import master_only
from mmengine.hooks import Hook

from mae_toolkit.registry import HOOKS
from mae_toolkit.visualization import draw_losses, read_scalars


@HOOKS.register_module()
class LossCurveHook(Hook):
    """Draws ``loss.png`` in the work directory after each validation and at the end, over all resumed runs."""

    priority = 'LOWEST'

    @master_only
    def after_val_epoch(self, runner, metrics=None):
        """Draw what was logged so far, while training."""
        if runner.iter:
            self._draw(runner)

    @master_only
    def after_train(self, runner):
        """Draw all."""
        self._draw(runner)

    def _draw(self, runner):
        draw_losses(read_scalars(runner.work_dir), Path(runner.work_dir) / 'loss.png', Path(runner.work_dir).name)
