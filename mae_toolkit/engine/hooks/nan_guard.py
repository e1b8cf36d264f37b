"""Stopping, or skipping a step, when the loss or a gradient is not a finite number."""

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook
from torch import distributed

from mae_toolkit.argument_ranges import HOOK, check_ranges
from mae_toolkit.engine._mmengine import get_accumulative_counts
from mae_toolkit.errors import UserError
from mae_toolkit.registry import HOOKS


class TrainingDiverged(UserError):
    """The loss, a gradient or a weight is not a finite number."""


@HOOKS.register_module()
class NaNGuardHook(Hook):
    """Looks at losses and gradients before each optimizer step; what is not finite never reaches the weights.

    All processes decide together. A checkpoint whose weights are not finite is refused, so that the last good one
    stays the newest. With loss scaling (fp16) the scaler judges gradients, as an overflow is part of its search.

    Args:
        action (str): 'stop' the run, or 'skip' the step.
        max_skips (int): Steps skipped in a row after which the run stops all the same.

    Raises:
        TrainingDiverged: With the iteration, the learning rate and the names of the images.
    """

    priority = 'VERY_HIGH'

    def __init__(self, action='stop', max_skips=20):
        if action not in ('stop', 'skip'):
            raise UserError(f"NaNGuardHook knows action='stop' and 'skip', not {action!r}.")
        check_ranges('NaNGuardHook: ', dict(max_skips=max_skips), HOOK)
        self.action, self.max_skips = action, max_skips
        self.skipped = self.in_a_row = 0
        self._pending = []  # (losses, names) of the batches since the last look, several when gradients accumulate
        self._names = []
        self._handles = []

    def before_train(self, runner):
        """Listen to the model's losses and to the optimizer's steps."""
        self._handles = [
            runner.model.register_forward_hook(self._note_losses),
            runner.optim_wrapper.optimizer.register_step_pre_hook(lambda *_: self._before_step(runner)),
        ]

    def after_train(self, runner):
        """Stop listening."""
        for handle in self._handles:
            handle.remove()

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        """Remember whose images come."""
        self._names = _names(data_batch) if isinstance(data_batch, dict) else []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        """Look at the losses of a step that loss scaling left out."""
        wrapper = runner.optim_wrapper
        if self._pending and wrapper.inner_count % get_accumulative_counts(wrapper) == 0:
            self._look(runner, [])

    def before_save_checkpoint(self, runner, checkpoint):
        """Refuse to save weights that are not finite."""
        for name, tensor in checkpoint['state_dict'].items():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise TrainingDiverged(
                    f'{name} is not finite after iteration {runner.iter + 1} ({_rates(runner)}), so no checkpoint is '
                    'written: resume from the last one with a lower learning rate or with gradient clipping.'
                )

    def _note_losses(self, model, inputs, outputs):
        if model.training and isinstance(outputs, dict):
            values = [v for value in outputs.values() for v in (value if isinstance(value, list) else [value])]
            losses = [value.detach().float().mean() for value in values if isinstance(value, torch.Tensor)]
            self._pending.append((losses, self._names))

    def _before_step(self, runner):
        groups = runner.optim_wrapper.optimizer.param_groups
        parameters = [p for group in groups for p in group['params'] if p.grad is not None]
        scaled = hasattr(runner.optim_wrapper, 'loss_scaler')
        if self._look(runner, [] if scaled else [p.grad for p in parameters]):
            self.in_a_row = 0
            return
        for parameter in parameters:
            parameter.grad = None  # an optimizer leaves parameters without gradient as they are

    def _look(self, runner, grads):
        """Whether the losses noted and these gradients are finite, in all processes."""
        pending, self._pending = self._pending, []
        values = [loss for losses, _ in pending for loss in losses]
        values += torch._foreach_norm(grads) if grads else []
        if not values:
            return True
        device = values[0].device
        bad = torch.stack([~torch.isfinite(value).to(device) for value in values]).any().float()
        all_reduce(bad, 'max')
        if not bad.item():
            return True
        self._report(runner, pending)
        return False

    def _report(self, runner, pending):
        self.skipped, self.in_a_row = self.skipped + 1, self.in_a_row + 1
        named = [names for losses, names in pending if not all(loss.isfinite() for loss in losses)]
        named = _gather([name for names in named for name in names])
        what = 'The loss' if named else 'A gradient'
        images = named or _gather([name for _, names in pending for name in names])
        sentence = f'{what} is not finite at iteration {runner.iter + 1} ({_rates(runner)}; images: {_listed(images)})'
        if self.action == 'stop' or self.in_a_row > self.max_skips:
            after = f', after {self.max_skips} skipped steps in a row' if self.action == 'skip' else ''
            raise TrainingDiverged(
                f'{sentence}{after}: lower the learning rate, clip gradients, or look at these images; '
                'the last checkpoint is untouched.'
            )
        runner.logger.warning(f'{sentence}; step skipped, {self.skipped} so far.')


def _names(batch):
    """Names of a batch's images; MMDetection and MMSegmentation keep them in the samples."""
    return list(batch.get('names') or [getattr(one, 'img_path', '') for one in batch.get('data_samples', ())])


def _rates(runner):
    rates = sorted({rate for group in runner.optim_wrapper.get_lr().values() for rate in group}, reverse=True)
    return f'learning rate {rates[0]:.3g}'


def _gather(names):
    if get_world_size() == 1:
        return names
    everyone = [None] * get_world_size()
    distributed.all_gather_object(everyone, names)
    return [name for part in everyone for name in part]


def _listed(names, most=32):
    more = f' and {len(names) - most} more' if len(names) > most else ''
    return (', '.join(map(str, names[:most])) or 'not named') + more
