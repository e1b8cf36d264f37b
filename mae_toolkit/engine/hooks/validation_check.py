"""Try the validation before training."""

from logging import Logger
from time import perf_counter
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch.utils.data import BatchSampler, DataLoader

from mae_toolkit.engine.dry_run import (
    check_norms,
    check_rules,
    check_watched,
    find_watched_metrics,
    try_validation,
)
from mae_toolkit.engine.dry_run.traces import leave_no_trace
from mae_toolkit.engine.fsdp import whole_model
from mae_toolkit.registry import HOOKS


@HOOKS.register_module()
class ValidationCheckHook(Hook):
    """Hook that tries before training what would fail at the first validation or in the last batch of an epoch.

    The validation runs once on two images, with copies of its loop and metrics and without hooks. Pipeline, model,
    metrics and annotations are then known to fit each other, and the metrics by which checkpoints are chosen
    (``save_best``), training is stopped or the learning rate is lowered are known to exist. Where a batch of training
    may have a single image, norms are tried on one. The run is the same with and without this hook, bit for bit.

    Every run has it; ``default_hooks=dict(validation_check=None)`` turns it off.

    Raises:
        UserError: With the mistake in the config and its remedy.
    """

    priority = 5  # after the checks of the data, and before anything is compiled or listens to the model

    def before_train(self, runner: Runner) -> None:
        """Try the norms and the validation."""
        with whole_model(runner.model):
            self._try(runner)

    def _try(self, runner: Runner) -> None:
        started = perf_counter()
        with leave_no_trace(runner):
            check_norms(runner)
        if not will_validate(runner):
            _warn_unwatched(runner)
            return
        with leave_no_trace(runner):
            dry_run = try_validation(runner)
        check_watched(runner, dry_run)
        check_rules(runner, dry_run)
        if dry_run.gives_nothing:
            runner.logger.warning(
                'The validation measures nothing, as val_evaluator is missing: set val_evaluator, or leave the '
                'validation out by val_dataloader=None, val_cfg=None and val_evaluator=None.'
            )
        _warn_dropped(runner.val_loop.dataloader, runner.logger)
        runner.logger.info(f'The dry run of the validation took {perf_counter() - started:.2f} s.')


def will_validate(runner: Runner) -> bool:
    """Return whether the training of a run includes a validation; MMEngine's loops end with one.

    Args:
        runner: The runner, before training.
    """
    loop = runner.train_loop
    if runner.val_loop is None or not isinstance(loop, EpochBasedTrainLoop | IterBasedTrainLoop):
        return runner.val_loop is not None
    by_epoch = isinstance(loop, EpochBasedTrainLoop)
    done, total = (loop.epoch, loop.max_epochs) if by_epoch else (loop.iter, loop.max_iters)
    return done < total and total >= loop.val_begin


def _warn_dropped(loader: DataLoader, logger: Logger) -> None:
    """Warn about images that a validation leaves out because the last batch is dropped."""
    batches: Any = loader.batch_sampler
    if not isinstance(batches, BatchSampler) or not batches.drop_last:
        return
    total = len(batches.sampler)  # type: ignore[arg-type]
    if left := total % batches.batch_size:
        logger.warning(f'The validation leaves out {left} of {total} images, as val_dataloader has drop_last=True.')


def _warn_unwatched(runner: Runner) -> None:
    """Warn about settings that wait for metrics although there is no validation."""
    watched = find_watched_metrics(runner)
    if watched and getattr(runner.train_loop, 'iter', 0) < getattr(runner.train_loop, 'max_iters', 1):
        settings = ', '.join(f'{one.setting}={one.name}' for one in watched)
        runner.logger.warning(f'{settings}: nothing comes of it, as this training has no validation.')
