"""Check settings that have a fixed place in a config: length of training, gradients, processes, schedules."""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from mmengine.config import Config
from mmengine.runner import Priority

from mae_toolkit import registry
from mae_toolkit.argument_ranges import SETTINGS
from mae_toolkit.arguments import check_value
from mae_toolkit.errors import UserError
from mae_toolkit.pixel_units import find_wrong_units

# Top-level settings: their type, and how it is described.
TYPES = {
    'default_hooks': (dict, 'a dict of hooks by name'),
    'custom_hooks': (list | tuple, 'a list of hooks'),
    'param_scheduler': (list | tuple | dict, 'a list of schedules'),
    'val_dataloader': (dict, 'a dict'),
    'test_dataloader': (dict, 'a dict'),
    'env_cfg': (dict, 'a dict'),
    'randomness': (dict, 'a dict'),
    'work_dir': (str, 'a path'),
    'load_from': (str, 'a path of a checkpoint'),
    'channels_rule': (str, "'sum', 'mean' or 'first', the rule for weights of other channels"),
    'experiment_name': (str, 'a name'),
    'default_scope': (str, 'a name'),
    'auto_scale_lr': (dict, "a dict with 'base_batch_size'"),
}


def check_settings(cfg: Config) -> None:
    """Refuse settings of the wrong type or out of range.

    Args:
        cfg: The config.

    Raises:
        UserError: With the setting and what it has to be.
    """
    for name, (kind, wanted) in TYPES.items():
        if cfg.get(name) is not None and not isinstance(cfg[name], kind):
            raise UserError(f'{name}={cfg[name]!r} is a {type(cfg[name]).__name__}, and has to be {wanted}, or None.')
    if cfg.get('resume') not in (None, True, False, 'auto'):
        raise UserError(f"resume={cfg.resume!r} has to be True, False or 'auto'; a checkpoint is named by load_from.")
    for path, rule in SETTINGS.items():
        *parents, name = path.split('.')
        node: Any = dict(cfg.items())
        for parent in parents:
            node = node.get(parent) if isinstance(node, dict) else None
        if isinstance(node, dict) and name in node:
            check_value(path, node[name], rule)
    _check_pattern((cfg.get('log_processor') or {}).get('mean_pattern', ''))
    if cfg.train_cfg.get('max_epochs') is not None and cfg.train_cfg.get('max_iters') is not None:
        raise UserError(
            f'train_cfg has max_epochs={cfg.train_cfg.max_epochs} and max_iters={cfg.train_cfg.max_iters}: a training '
            'is as long as one of them; leave the other out.'
        )
    _check_clipping(cfg.optim_wrapper.get('clip_grad'))
    _check_nesterov(cfg.optim_wrapper.get('optimizer'))


def _check_pattern(pattern: Any) -> None:
    try:
        re.compile(pattern)
    except (re.error, TypeError) as error:
        raise UserError(f'log_processor.mean_pattern={pattern!r} is no regular expression: {error}.') from None


def _check_clipping(clip_grad: Any) -> None:
    """Check the arguments for ``torch.nn.utils.clip_grad_norm_`` or ``clip_grad_value_``."""
    if clip_grad is None:
        return
    if not isinstance(clip_grad, dict):
        raise UserError(f'optim_wrapper.clip_grad={clip_grad!r} has to be a dict, such as dict(max_norm=1.0), or None.')
    functions: dict[str, Callable[..., Any]] = {
        'norm': torch.nn.utils.clip_grad_norm_,
        'value': torch.nn.utils.clip_grad_value_,
    }
    kind = clip_grad.get('type', 'norm')
    if kind not in functions:
        raise UserError(f'optim_wrapper.clip_grad.type={kind!r} must be one of {", ".join(functions)}.')
    accepted = list(inspect.signature(functions[kind]).parameters)[1:]
    refuse_names(set(clip_grad) - {*accepted, 'type'}, accepted, 'optim_wrapper.clip_grad')
    needed = {'norm': 'max_norm', 'value': 'clip_value'}[kind]
    if needed not in clip_grad:
        raise UserError(f'optim_wrapper.clip_grad has no {needed}, the limit of type={kind!r}.')


def _check_nesterov(optimizer: Any) -> None:
    """Refuse Nesterov's momentum where SGD has none, or dampens it."""
    if not isinstance(optimizer, dict) or optimizer.get('type') != 'SGD' or not optimizer.get('nesterov'):
        return
    momentum, dampening = optimizer.get('momentum', 0), optimizer.get('dampening', 0)
    if not momentum or dampening:
        raise UserError(
            f'optim_wrapper.optimizer: nesterov=True needs a momentum above 0 and dampening=0, not {momentum=} and '
            f'{dampening=}.'
        )


def check_priority(path: str, priority: object) -> None:
    """Refuse a priority of a hook that is neither a number from 0 to 100 nor one of MMEngine's names.

    Args:
        path: Dotted path of the setting, for the error.
        priority: The priority.

    Raises:
        UserError: If it is neither.
    """
    names = [level.name for level in Priority]
    if isinstance(priority, Priority) or (isinstance(priority, str) and priority.upper() in names):
        return
    if not isinstance(priority, int) or isinstance(priority, bool) or not 0 <= priority <= 100:
        raise UserError(
            f'{path}={priority!r} is neither a number from 0 to 100 nor the name of a priority'
            f'{registry.suggest(str(priority).upper(), names)}'
        )


def check_schedule_bounds(cfg: Config) -> None:
    """Refuse entries of ``param_scheduler`` that are no schedules, and schedules that begin after training has ended.

    Args:
        cfg: The config.

    Raises:
        UserError: With the schedule.
    """
    epochs, steps = cfg.train_cfg.get('max_epochs'), cfg.train_cfg.get('max_iters')
    schedules: Any = cfg.get('param_scheduler') or []
    for i, schedule in enumerate(schedules if isinstance(schedules, list | tuple) else [schedules]):
        if not isinstance(schedule, dict) or 'type' not in schedule:
            raise UserError(
                f'param_scheduler[{i}]={schedule!r} has to be a dict with a type, such as CosineAnnealingLR.'
            )
        by_epoch = schedule.get('by_epoch', True)
        end = schedule.get('end', epochs if by_epoch else steps)
        if end is not None and schedule.get('begin', 0) >= end:
            length = f'max_epochs={epochs}' if steps is None else f'max_iters={steps}'
            raise UserError(
                f'param_scheduler[{i}] ({schedule["type"]}) begins at {schedule.get("begin", 0)} and ends at {end}: '
                f'train longer than {length}, or shorten the warm-up.'
            )


def check_units(model: Mapping[str, Any], scope: str) -> None:
    """Refuse means and standard deviations for pixels from 0 to 1 where pixels are bytes, from 0 to 255.

    Args:
        model: Config of the model; only detectors and segmenters are checked here.
        scope: Scope of the config; the preprocessors of this toolkit look at the images themselves.

    Raises:
        UserError: With the values to set.
    """
    preprocessor = model.get('data_preprocessor')
    if scope == registry.SCOPE or not isinstance(preprocessor, dict):
        return
    mean, std = preprocessor.get('mean'), preprocessor.get('std')
    if isinstance(mean, list | tuple) and isinstance(std, list | tuple) and mean and std:
        wrong = find_wrong_units(mean, std, 0, 255)
        if wrong:
            raise UserError(f'model.data_preprocessor: {wrong}')


def refuse_names(unknown: Iterable[str], accepted: Sequence[str], path: str) -> None:
    """Refuse arguments of unknown names, and suggest the nearest known one.

    Args:
        unknown: The unknown names; without any, nothing happens.
        accepted: The known names.
        path: What has no such argument, for the error.

    Raises:
        UserError: If there is an unknown name.
    """
    for key in sorted(unknown):
        raise UserError(f'{path} has no argument {key!r}{registry.suggest(str(key), accepted)}')
