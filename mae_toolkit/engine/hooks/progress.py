"""A progress bar with what one wants to know while waiting."""

import sys
from time import perf_counter

import psutil
import torch
from mmengine.dist import get_world_size, is_main_process, master_only
from mmengine.hooks import Hook
from tqdm import tqdm

from mae_toolkit.argument_ranges import HOOK, check_ranges
from mae_toolkit.engine.dry_run.metrics import is_number
from mae_toolkit.registry import HOOKS


@HOOKS.register_module()
class ProgressHook(Hook):
    """Shows loss, images/s, time left and memory; on a terminal as a bar, elsewhere as a line now and then.

    Args:
        interval (int): Iterations over which loss and speed are averaged; a look at them waits for the device.
        line_interval (float): Seconds between two lines where there is no terminal.
    """

    priority = 'VERY_LOW'

    def __init__(self, interval=10, line_interval=20.0):
        check_ranges('ProgressHook: ', dict(interval=interval, line_interval=line_interval), HOOK)
        self.interval, self.line_interval = interval, line_interval
        self._bar = None
        self._restart()

    @master_only
    def before_train(self, runner):
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

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        """Move the bar by one iteration."""
        if not is_main_process():
            return
        images = data_batch['imgs'] if 'imgs' in data_batch else data_batch['inputs']  # ours, MMDetection's
        self._images += len(images) * get_world_size()
        self._losses += [outputs['loss'].detach()] if outputs and 'loss' in outputs else []
        if self.every_n_train_iters(runner, self.interval) or runner.iter + 1 == runner.max_iters:
            self._bar.set_postfix_str(self._state(runner), refresh=False)
            self._restart()
        self._bar.update()

    @master_only
    def after_val_epoch(self, runner, metrics=None):
        """Say the losses or metrics on the held-out images."""
        parts = {name: value for name, value in (metrics or {}).items() if name != 'loss'}
        loss = {'loss': metrics['loss']} if metrics and 'loss' in metrics else {}
        shown = loss | (parts if len(parts) > 1 or not loss else {})
        values = ', '.join(f'{name} {value:.4f}' for name, value in shown.items() if is_number(value))
        done = f'epoch {runner.epoch}' if runner.max_epochs > 1 else f'step {runner.iter}'
        tqdm.write(f'{done}, held-out images: {values}', file=sys.stderr)

    @master_only
    def after_train(self, runner):
        """Close the bar."""
        self._bar.close()

    def _restart(self):
        """Begin to count anew: images, and losses, which are left on the device."""
        self._images, self._losses, self._since = 0, [], perf_counter()

    def _state(self, runner):
        loss = f'loss {torch.stack(self._losses).mean().item():.4f}, ' if self._losses else ''
        rate = self._images / max(perf_counter() - self._since, 1e-9)
        epoch = f'epoch {runner.epoch + 1}/{runner.max_epochs}, ' if runner.max_epochs > 1 else ''
        return f'{epoch}{loss}{rate:.0f} images/s, {_memory() / 2**30:.1f} GB'


def _memory():
    """Bytes in use: the most that the GPU held, else what this process and its workers hold."""
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
