"""Show a progress bar."""

import sys
from time import perf_counter
from typing import Any

import psutil
import torch
from mmengine.dist import get_world_size, is_main_process, master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor
from tqdm import tqdm

from mae_toolkit.argument_ranges import HOOK, check_ranges
from mae_toolkit.engine.dry_run.metrics import is_number
from mae_toolkit.registry import HOOKS


@HOOKS.register_module()
class ProgressHook(Hook):
    """Hook that shows loss, images/s, time left and memory: as a bar on a terminal, elsewhere as a line now and then.

    Args:
        interval: Iterations over which loss and speed are averaged; reading them waits for the device.
        line_interval: Seconds between two lines where there is no terminal.
    """

    priority = 'VERY_LOW'

    def __init__(self, interval: int = 10, line_interval: float = 20.0) -> None:
        check_ranges('ProgressHook: ', dict(interval=interval, line_interval=line_interval), HOOK)
        self.interval, self.line_interval = interval, line_interval
        self._bar: Any = None
        self._restart()

    @master_only
    def before_train(self, runner: Runner) -> None:
        """Open the bar."""
        wait = {} if sys.stderr.isatty() else {'mininterval': self.line_interval, 'maxinterval': self.line_interval}
        self._bar = tqdm(
            total=runner.max_iters,
            initial=runner.iter,
            desc='training',
            unit='it',
            dynamic_ncols=True,
            bar_format='{desc} {percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]',
            **wait,
        )
        self._restart()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Move the bar by one iteration."""
        if not is_main_process():
            return
        images = data_batch['imgs'] if 'imgs' in data_batch else data_batch['inputs']  # ours, MMDetection's
        self._images += len(images) * get_world_size()
        self._losses += [outputs['loss'].detach()] if outputs and 'loss' in outputs else []
        if self.every_n_train_iters(runner, self.interval) or runner.iter + 1 == runner.max_iters:
            self._bar.set_postfix_str(self._format_state(runner), refresh=False)
            self._restart()
        self._bar.update()

    @master_only
    def after_val_epoch(self, runner: Runner, metrics: dict[str, Any] | None = None) -> None:
        """Print the losses or metrics of the held-out images."""
        parts = {name: value for name, value in (metrics or {}).items() if name != 'loss'}
        loss = {'loss': metrics['loss']} if metrics and 'loss' in metrics else {}
        shown = loss | (parts if len(parts) > 1 or not loss else {})
        values = ', '.join(f'{name} {value:.4f}' for name, value in shown.items() if is_number(value))
        done = f'epoch {runner.epoch}' if runner.max_epochs > 1 else f'step {runner.iter}'
        tqdm.write(f'{done}, held-out images: {values}', file=sys.stderr)

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Close the bar."""
        self._bar.close()

    def _restart(self) -> None:
        """Start a new average of images and losses; losses are left on the device."""
        self._images, self._since = 0, perf_counter()
        self._losses: list[Tensor] = []

    def _format_state(self, runner: Runner) -> str:
        loss = f'loss {torch.stack(self._losses).mean().item():.4f}, ' if self._losses else ''
        rate = self._images / max(perf_counter() - self._since, 1e-9)
        epoch = f'epoch {runner.epoch + 1}/{runner.max_epochs}, ' if runner.max_epochs > 1 else ''
        return f'{epoch}{loss}{rate:.0f} images/s, {_measure_memory() / 2**30:.1f} GB'


def _measure_memory() -> int:
    """Return bytes in use: the maximum of the GPU so far, else what this process and its workers hold now."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    process = psutil.Process()
    total = 0
    for p in (process, *process.children(recursive=True)):
        try:
            total += p.memory_info().rss
        except psutil.NoSuchProcess:  # a worker that has just ended
            continue
    return total
