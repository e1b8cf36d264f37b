"""Check the metrics by which checkpoints are kept, training is stopped or learning rates are lowered."""

from typing import NamedTuple

from mmengine.hooks import CheckpointHook, EarlyStoppingHook, Hook
from mmengine.runner import Runner

from mae_toolkit.engine._mmengine_files import check_ranking
from mae_toolkit.engine.dry_run.metrics import LIBRARIES, is_number
from mae_toolkit.engine.dry_run.validation import DryRun
from mae_toolkit.errors import UserError
from mae_toolkit.registry import suggest

AUTO = 'auto'


class Watched(NamedTuple):
    """A metric that a setting of the config names.

    Attributes:
        setting: The setting, such as ``'default_hooks.checkpoint.save_best'``.
        name: Name of the metric.
    """

    setting: str
    name: str


def find_watched_metrics(runner: Runner) -> list[Watched]:
    """Return the metrics that the hooks and schedules of a run name."""
    found = []
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook):
            found += [Watched(f'{_find_place(runner, hook)}.save_best', name) for name in hook.save_best or ()]
        if isinstance(hook, EarlyStoppingHook):
            found += [Watched(f'{_find_place(runner, hook)}.monitor', hook.monitor)]
    schedules = runner.param_schedulers or []
    if isinstance(schedules, dict):
        schedules = [one for group in schedules.values() for one in group]
    monitors = [one.monitor for one in schedules if getattr(one, 'need_val_args', False)]
    return found + [Watched('param_scheduler.monitor', name) for name in monitors]


def check_watched(runner: Runner, dry_run: DryRun) -> None:
    """Refuse settings that name a metric that the validation does not compute, or that is not a number.

    Args:
        runner: The runner, with its hooks and schedules.
        dry_run: Result of the dry run, which knows the names of the metrics.

    Raises:
        UserError: With the nearest names that the validation computes.
    """
    for watched in find_watched_metrics(runner):
        if watched.name == AUTO:
            if dry_run.gives_nothing:
                raise UserError(f'{watched.setting}=auto finds no metric, as {_explain_no_metric(runner)}.')
            continue
        value = dry_run.metrics.get(watched.name)
        if value is not None and not is_number(value):
            raise UserError(
                f'{watched.setting}={watched.name!r} is a {type(value).__name__}, not a number: choose one of '
                f'{", ".join(name for name, other in dry_run.metrics.items() if is_number(other)) or "other metrics"}.'
            )
        if watched.name in dry_run.names or dry_run.may_give(watched.name) or _has_user_hook(runner):
            continue
        if not dry_run.names:
            raise UserError(f'{watched.setting}={watched.name!r} is not a metric, as {_explain_no_metric(runner)}.')
        known = suggest(watched.name, dry_run.names)
        raise UserError(f'{watched.setting}={watched.name!r} is not a metric of the validation{known}')


def check_rules(runner: Runner, dry_run: DryRun) -> None:
    """Refuse ``save_best='auto'`` if MMEngine does not know whether more of the first metric is better.

    Args:
        runner: The runner, with its hooks.
        dry_run: Result of the dry run.

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
            place = _find_place(runner, hook)
            raise UserError(
                f'{place}.save_best=auto takes the first metric, {first!r}, and it is not known whether more of it is '
                f'better: set {place}.rule to greater or less.'
            ) from error


def _explain_no_metric(runner: Runner) -> str:
    """Explain why there is no metric, as a clause."""
    if not getattr(getattr(runner.val_loop, 'evaluator', None), 'metrics', True):
        return 'val_evaluator is missing and the validation measures nothing: set val_evaluator'
    return 'the validation gives none'


def _has_user_hook(runner: Runner) -> bool:
    """Return whether a hook of the user's own acts after the validation, where it may add metrics."""
    acting = [type(hook) for hook in runner.hooks if type(hook).after_val_epoch is not Hook.after_val_epoch]
    return any(kind.__module__.partition('.')[0] not in LIBRARIES for kind in acting)


def _find_place(runner: Runner, hook: Hook) -> str:
    """Return where a hook is in the config."""
    configured = (runner.cfg.get('default_hooks') or {}).items()
    kinds = {str(one.get('type')).rpartition('.')[-1]: name for name, one in configured if isinstance(one, dict)}
    name = kinds.get(type(hook).__name__)
    return f'default_hooks.{name}' if name else type(hook).__name__
