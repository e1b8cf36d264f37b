"""Stop a run, or skip a step, when the loss or a gradient is not finite."""

from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, distributed, nn

from mae_toolkit.argument_ranges import HOOK, check_ranges
from mae_toolkit.engine._mmengine import get_accumulative_counts
from mae_toolkit.errors import UserError
from mae_toolkit.registry import HOOKS
from mae_toolkit.sharded_tensors import take_local


class TrainingDiverged(UserError):
    """Error of a run whose loss, gradient or weight is not finite."""


@HOOKS.register_module()
class NaNGuardHook(Hook):
    """Hook that checks losses and gradients before each optimizer step, so that NaN never reaches the weights.

    All processes decide together. A checkpoint whose weights are not finite is not written, so that the last good one
    stays the newest. With loss scaling (float16) only the scaler judges gradients: an overflow is part of its search
    for a scale.

    Args:
        action: ``'stop'`` the run, or ``'skip'`` the step.
        max_skips: Number of steps skipped in a row after which the run is stopped all the same.

    Raises:
        TrainingDiverged: With the iteration, the learning rate and the names of the images.
    """

    priority = 'VERY_HIGH'

    def __init__(self, action: str = 'stop', max_skips: int = 20) -> None:
        if action not in ('stop', 'skip'):
            raise UserError(f"NaNGuardHook: action={action!r} must be 'stop' or 'skip'.")
        check_ranges('NaNGuardHook: ', dict(max_skips=max_skips), HOOK)
        self.action, self.max_skips = action, max_skips
        self.skipped = self.in_a_row = 0
        # (losses, names of the images) of the batches since the last check; several when gradients accumulate
        self._pending: list[tuple[list[Tensor], list[str]]] = []
        self._names: list[str] = []
        self._handles: list[Any] = []

    def before_train(self, runner: Runner) -> None:
        """Register hooks on the model's losses and on the optimizer's steps."""
        self._handles = [
            runner.model.register_forward_hook(self._note_losses),
            runner.optim_wrapper.optimizer.register_step_pre_hook(lambda *_: self._before_step(runner)),
        ]

    def after_train(self, runner: Runner) -> None:
        """Remove the hooks on model and optimizer."""
        for handle in self._handles:
            handle.remove()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Remember the names of the images."""
        self._names = _get_names(data_batch) if isinstance(data_batch, dict) else []

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Check the losses of a step that loss scaling has skipped."""
        wrapper = runner.optim_wrapper
        if self._pending and wrapper.inner_count % get_accumulative_counts(wrapper) == 0:
            self._check(runner, [])

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Refuse to save weights that are not finite."""
        for name, tensor in checkpoint['state_dict'].items():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise TrainingDiverged(
                    f'{name} is not finite after iteration {runner.iter + 1} ({_format_rate(runner)}), so no '
                    'checkpoint is written: resume from the last one with a lower learning rate or with gradient '
                    'clipping.'
                )

    def _note_losses(self, model: nn.Module, inputs: Any, outputs: Any) -> None:
        if model.training and isinstance(outputs, dict):
            values = [v for value in outputs.values() for v in (value if isinstance(value, list) else [value])]
            losses = [value.detach().float().mean() for value in values if isinstance(value, torch.Tensor)]
            self._pending.append((losses, self._names))

    def _before_step(self, runner: Runner) -> None:
        groups = runner.optim_wrapper.optimizer.param_groups
        parameters = [p for group in groups for p in group['params'] if p.grad is not None]
        scaled = hasattr(runner.optim_wrapper, 'loss_scaler')
        if self._check(runner, [] if scaled else [p.grad for p in parameters]):
            self.in_a_row = 0
            return
        for parameter in parameters:
            parameter.grad = None  # an optimizer leaves parameters without gradient as they are

    def _check(self, runner: Runner, grads: list[Tensor]) -> bool:
        """Return whether the noted losses and these gradients are finite in all processes."""
        pending, self._pending = self._pending, []
        values = [loss for losses, _ in pending for loss in losses]
        values += torch._foreach_norm(take_local(grads)) if grads else []
        if not values:
            return True
        device = values[0].device
        bad = torch.stack([~torch.isfinite(value).to(device) for value in values]).any().float()
        all_reduce(bad, 'max')
        if not bad.item():
            return True
        self._report(runner, pending)
        return False

    def _report(self, runner: Runner, pending: list[tuple[list[Tensor], list[str]]]) -> None:
        self.skipped, self.in_a_row = self.skipped + 1, self.in_a_row + 1
        guilty = [names for losses, names in pending if not all(loss.isfinite() for loss in losses)]
        named = _gather([name for names in guilty for name in names])
        what = 'The loss' if named else 'A gradient'
        images = named or _gather([name for _, names in pending for name in names])
        where = f'iteration {runner.iter + 1} ({_format_rate(runner)}; images: {_format_names(images)})'
        sentence = f'{what} is not finite at {where}'
        if self.action == 'stop' or self.in_a_row > self.max_skips:
            after = f', after {self.max_skips} skipped steps in a row' if self.action == 'skip' else ''
            raise TrainingDiverged(
                f'{sentence}{after}: lower the learning rate, clip gradients, or look at these images; '
                'the last checkpoint is untouched.'
            )
        runner.logger.warning(f'{sentence}; step skipped, {self.skipped} so far.')


def _get_names(batch: dict[str, Any]) -> list[str]:
    """Return the names of a batch's images; MMDetection and MMSegmentation keep them in the data samples."""
    return list(batch.get('names') or [getattr(one, 'img_path', '') for one in batch.get('data_samples', ())])


def _format_rate(runner: Runner) -> str:
    rates = sorted({rate for group in runner.optim_wrapper.get_lr().values() for rate in group}, reverse=True)
    return f'learning rate {rates[0]:.3g}'


def _gather(names: list[str]) -> list[str]:
    """Return the names of all processes."""
    if get_world_size() == 1:
        return names
    everyone: list[Any] = [None] * get_world_size()
    distributed.all_gather_object(everyone, names)
    return [name for part in everyone for name in part]


def _format_names(names: list[str], most: int = 32) -> str:
    more = f' and {len(names) - most} more' if len(names) > most else ''
    return (', '.join(map(str, names[:most])) or 'not named') + more
