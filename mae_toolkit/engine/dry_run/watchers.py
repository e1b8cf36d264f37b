"""The metrics by which checkpoints are kept, training is stopped or learning rates are lowered."""

from typing import NamedTuple

from mmengine.hooks import CheckpointHook, EarlyStoppingHook, Hook

from mae_toolkit.engine._mmengine import check_ranking
from mae_toolkit.engine.dry_run.metrics import LIBRARIES, is_number
from mae_toolkit.errors import UserError
from mae_toolkit.registry import suggest

AUTO = 'auto'


class Watched(NamedTuple):
    """A metric that something in the config waits for."""

    setting: str  # as in 'default_hooks.checkpoint.save_best'
    name: str


def watched_metrics(runner) -> list[Watched]:
    """Return the metrics that the run's hooks and schedules wait for."""
    found = []
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook):
            found += [Watched(f'{_place(runner, hook)}.save_best', name) for name in hook.save_best or ()]
        if isinstance(hook, EarlyStoppingHook):
            found += [Watched(f'{_place(runner, hook)}.monitor', hook.monitor)]
    schedules = runner.param_schedulers or []
    if isinstance(schedules, dict):
        schedules = [one for group in schedules.values() for one in group]
    monitors = [one.monitor for one in schedules if getattr(one, 'need_val_args', False)]
    return found + [Watched('param_scheduler.monitor', name) for name in monitors]


def check_watched(runner, dry_run) -> None:
    """Refuse to wait for a metric that the validation does not give, or that is no number.

    Args:
        runner (Runner): Its hooks and schedules are asked.
        dry_run (DryRun): Knows the names.

    Raises:
        UserError: With the nearest names that it gives.
    """
    for watched in watched_metrics(runner):
        if watched.name == AUTO:
            if dry_run.gives_nothing:
                raise UserError(f'{watched.setting}=auto finds no metric, as {_nothing(runner)}.')
            continue
        value = dry_run.metrics.get(watched.name)
        if value is not None and not is_number(value):
            raise UserError(
                f'{watched.setting}={watched.name!r} is no single number but {type(value).__name__}: choose one of '
                f'{", ".join(name for name, other in dry_run.metrics.items() if is_number(other)) or "other metrics"}.'
            )
        if watched.name in dry_run.names or dry_run.may_give(watched.name) or _has_user_hook(runner):
            continue
        if not dry_run.names:
            raise UserError(f'{watched.setting}={watched.name!r} is no metric, as {_nothing(runner)}.')
        known = suggest(watched.name, dry_run.names)
        raise UserError(f'{watched.setting}={watched.name!r} is no metric of the validation{known}')


def check_rules(runner, dry_run) -> None:
    """Refuse ``save_best='auto'`` if MMEngine cannot tell whether more of the first metric is better.

    Raises:
        UserError: With the name of that metric.
    """
    first = next(iter(dry_run.metrics), None)
    for hook in runner.hooks:
        if not isinstance(hook, CheckpointHook) or AUTO not in (hook.save_best or ()) or first is None:
            continue
        try:
            check_ranking(hook, first)
        except ValueError as error:
            place = _place(runner, hook)
            raise UserError(
                f'{place}.save_best=auto takes the first metric, {first!r}, of which it is not known whether more is '
                f'better: set {place}.rule to greater or less.'
            ) from error


def _nothing(runner) -> str:
    """Why there is no metric."""
    if not getattr(getattr(runner.val_loop, 'evaluator', None), 'metrics', True):
        return 'val_evaluator is missing and the validation measures nothing: set val_evaluator'
    return 'the validation gives none'


def _has_user_hook(runner) -> bool:
    """Whether a hook that is no library's acts after the validation, where it may add metrics."""
    ours = [type(hook) for hook in runner.hooks if type(hook).after_val_epoch is not Hook.after_val_epoch]
    return any(kind.__module__.partition('.')[0] not in LIBRARIES for kind in ours)


def _place(runner, hook: Hook) -> str:
    """Where a hook stands in the config."""
    configured = (runner.cfg.get('default_hooks') or {}).items()
    kinds = {str(one.get('type')).rpartition('.')[-1]: name for name, one in configured if isinstance(one, dict)}
    name = kinds.get(type(hook).__name__)
    return f'default_hooks.{name}' if name else type(hook).__name__
