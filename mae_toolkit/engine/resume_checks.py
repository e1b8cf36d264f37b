"""Check what a resumed run takes from a training checkpoint besides the weights."""

from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import Tensor, nn
from torch.optim import Optimizer

from mae_toolkit.checkpoints.checks import check_finite, check_kinds, check_layouts, check_sizes
from mae_toolkit.errors import UserError

# States of torch's and timm's optimizers that have the shape of the parameter: kernels run over both.
ELEMENTWISE = frozenset(
    'exp_avg exp_avg_sq max_exp_avg_sq exp_inf momentum_buffer square_avg grad_avg acc_delta sum prev ax '
    'exp_avg_diff neg_pre_grad'.split()
)


def check_training_state(
    path: str | Path,
    saved: Mapping[str, Any],
    optim_wrapper: OptimWrapper | None,
    param_schedulers: Any,
    model: nn.Module,
) -> None:
    """Refuse a training checkpoint whose logs, optimizer or schedules are not of this run.

    Args:
        path: The checkpoint, named in the error.
        saved: What it holds.
        optim_wrapper: The optimizer wrapper of this run; None if the saved state is not used.
        param_schedulers: The schedules of this run, as ``Runner.param_schedulers``; by name, they are not checked.
        model: The model, which names the parameters.

    Raises:
        UserError: With the first difference.
    """
    check_message_hub(path, saved['message_hub'])
    if optim_wrapper is not None:
        check_optimizer(path, saved['optimizer'], optim_wrapper, model, saved['meta']['iter'])
    if not isinstance(param_schedulers, dict):
        planned = param_schedulers if isinstance(param_schedulers, list) else []
        check_saved_schedules(path, saved.get('param_schedulers'), planned)


def check_optimizer(path: str | Path, saved: Any, wrapper: OptimWrapper, model: nn.Module, iterations: int) -> None:
    """Refuse the state of another optimizer, or of other parameters.

    Args:
        path: The checkpoint, named in the error.
        saved: State of the optimizer in it.
        wrapper: Optimizer wrapper of this run.
        model: The model, which names the parameters.
        iterations: Number of iterations of the saved run.

    Raises:
        UserError: With the first difference.
    """
    if isinstance(wrapper, OptimWrapperDict):
        for name, part in wrapper.items():
            check_optimizer(path, saved.get(name) if isinstance(saved, dict) else None, part, model, iterations)
        return
    optimizer = getattr(wrapper, 'optimizer', None)
    if not isinstance(optimizer, Optimizer):
        return
    names = {parameter: name for name, parameter in model.named_parameters()}
    if reason := _find_difference(path, saved, optimizer, names, iterations):
        raise UserError(
            f'The optimizer in {path} does not fit that of the config ({reason}): resume with the same optimizer and '
            'rules of weight decay, or start anew with load_from.'
        )


def check_saved_schedules(path: str | Path, saved: Any, planned: Sequence[Any]) -> None:
    """Refuse the states of other schedules.

    Args:
        path: The checkpoint, named in the error.
        saved: States of the schedules in it.
        planned: Schedules of this run.

    Raises:
        UserError: If their number or kinds differ, or a value has another type.
    """
    saved = [] if saved is None else saved
    if not isinstance(saved, list) or len(planned) != len(saved):
        count = len(saved) if isinstance(saved, list) else 'no list of'
        raise UserError(
            f'{path} is of a run with {count} schedules, and the config has {len(planned)}: resume with '
            'the same, or start anew with load_from.'
        )
    for number, (state, schedule) in enumerate(zip(saved, planned, strict=True)):
        own, kind = schedule.state_dict(), type(schedule).__name__
        if not isinstance(state, dict) or own.keys() != state.keys():
            differ = sorted(map(str, own.keys() ^ state.keys())) if isinstance(state, dict) else [type(state).__name__]
            raise UserError(
                f'In {path} schedule {number} is no {kind}, as it is in the config (they differ in '
                f'{", ".join(differ)}): resume with the same schedules, or start anew with load_from.'
            )
        wrong = [key for key, value in own.items() if not _is_alike(state[key], value)]
        if wrong:
            raise UserError(
                f'In {path} {wrong[0]} of schedule {number}, a {kind}, is {state[wrong[0]]!r:.50}: take another '
                'checkpoint, or start anew with load_from.'
            )


def check_message_hub(path: str | Path, hub: Mapping[str, Any]) -> None:
    """Refuse logged values that MMEngine cannot load.

    Args:
        path: The checkpoint, named in the error.
        hub: State of the message hub in it.

    Raises:
        UserError: If one of its three parts is missing.
    """
    wrong = [key for key in ('log_scalars', 'runtime_info', 'resumed_keys') if not isinstance(hub.get(key), dict)]
    if wrong:
        raise UserError(
            f'{path} has no {", ".join(wrong)} in its message_hub, so no run can go on from it; start with load_from.'
        )


def check_average(path: str | Path, checkpoint: Mapping[str, Any], model: nn.Module) -> None:
    """Refuse a running average of weights that MMEngine's ``EMAHook`` cannot load.

    Args:
        path: The checkpoint, named in the error.
        checkpoint: What it holds; without an average nothing is checked.
        model: The model.

    Raises:
        UserError: If a weight of the model is missing in it, or has another shape.
    """
    if 'ema_state_dict' not in checkpoint:
        return
    average, own = checkpoint['ema_state_dict'], model.state_dict()
    found = average if isinstance(average, dict) else {}
    state: dict[str, Any] = {name: found.get(f'module.{name}') for name in own}
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor):
            raise UserError(f'{path}: its running average (ema_state_dict) lacks {name}: take another checkpoint.')
    check_layouts(path, state)
    for name, tensor in state.items():
        if tensor.shape != own[name].shape:
            raise UserError(
                f'{path}: in its running average (ema_state_dict) {name} has shape {tuple(tensor.shape)}, and in the '
                f'model {tuple(own[name].shape)}: take another checkpoint.'
            )
    check_kinds(path, state, own)
    check_finite(path, state)


def _find_difference(
    path: str | Path, saved: Any, optimizer: Optimizer, names: Mapping[nn.Parameter, str], iterations: int
) -> str | None:
    """Describe in a few words how a saved state differs from an optimizer; None if it does not."""
    groups, state = (saved.get(key) if isinstance(saved, dict) else None for key in ('param_groups', 'state'))
    if not isinstance(groups, list) or not isinstance(state, dict) or not all(isinstance(g, dict) for g in groups):
        return 'it lacks param_groups or state'
    if len(groups) != len(optimizer.param_groups):
        return f'it has {len(groups)} groups of parameters, not {len(optimizer.param_groups)}'
    parameters: dict[int, Tensor] = {}
    squares: set[int] = set()
    for number, (group, own) in enumerate(zip(groups, optimizer.param_groups, strict=True)):
        ids = group.get('params')
        if not isinstance(ids, list) or len(ids) != len(own['params']):
            count = len(ids) if isinstance(ids, list) else 'no'
            return f'its group {number} has {count} parameters, not {len(own["params"])}'
        if not all(type(i) is int for i in ids):
            return f'its group {number} does not number its parameters'
        if reason := _find_difference_of_settings(group, own, optimizer.defaults):
            return f'in its group {number} {reason}'
        parameters |= dict(zip(ids, own['params'], strict=True))
        squares |= set(ids) if group.get('amsgrad') else set()
    if unknown := [key for key in state if key not in parameters]:
        return f'it has a state for {len(unknown)} parameters that no group has, the first {unknown[0]!r}'
    if not state and iterations and isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW):
        return f'it has no state for any parameter after {iterations} iterations'
    if lacking := [
        key for key in squares & state.keys() if not isinstance(state[key], dict) or 'max_exp_avg_sq' not in state[key]
    ]:
        return f'it is of amsgrad, and the state of parameter {lacking[0]} lacks max_exp_avg_sq'
    return _find_difference_of_states(path, state, parameters, optimizer, names)


def _find_difference_of_settings(group: dict, own: dict, defaults: dict[str, Any]) -> str | None:
    """Describe the first setting of a group, such as the learning rate, that is missing or has another type."""
    for key, value in defaults.items():
        if value is None or key not in own:
            continue
        if isinstance(value, bool):  # a flag; versions of torch add some
            if not isinstance(group.get(key), (bool, type(None))):
                return f'{key} is neither True nor False'
            continue
        if key not in group:
            return f'{key} is missing'
        if isinstance(value, (int, float)) and not _is_number(group[key]):
            return f'{key} is not a number'
        if isinstance(value, tuple) and not _are_numbers(group[key], len(value)):
            return f'{key} are not {len(value)} numbers'
    return None


def _find_difference_of_states(
    path: str | Path, state: dict, parameters: dict, optimizer: Optimizer, names: Mapping[nn.Parameter, str]
) -> str | None:
    """Describe the first parameter whose state is missing or does not fit."""
    is_adam = isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW)
    expected = {'step', 'exp_avg', 'exp_avg_sq'} if is_adam else None
    tensors: dict[str, Tensor] = {}
    for key, values in state.items():
        name = names.get(parameters[key], f'parameter {key}')
        if not isinstance(values, dict):
            return f'the state of {name} is a {type(values).__name__}'
        if values and expected is not None and (lacking := sorted(expected - values.keys())):
            return f'the state of {name} lacks {", ".join(lacking)}'
        for kind, value in values.items():
            if reason := _find_difference_of_value(kind, value, parameters[key], is_adam):
                return f'{kind} of {name} {reason}'
        tensors |= {f'{name}, {kind}': value for kind, value in values.items() if isinstance(value, Tensor)}
    check_layouts(path, tensors)
    check_sizes(path, tensors)
    check_finite(path, tensors)
    return None


def _find_difference_of_value(kind: str, value: Any, parameter: Tensor, is_adam: bool) -> str | None:
    """Describe what is wrong with one value of a parameter's state; None if nothing is."""
    if kind == 'step':
        return None if _is_number(value) else 'is not a number'
    if kind not in ELEMENTWISE or (value is None and kind == 'momentum_buffer'):  # as it is before the first step
        return None
    if not isinstance(value, Tensor):
        return f'is a {type(value).__name__}'
    if value.is_nested or value.layout != torch.strided:
        return 'is not a dense tensor'
    if not is_adam and value.dim() == 0:  # NovoGrad has one square per parameter
        return None
    if value.shape != parameter.shape:
        return f'has shape {tuple(value.shape)} there and {tuple(parameter.shape)} here'
    if any(step == 0 and length > 1 for step, length in zip(value.stride(), value.shape, strict=True)):
        return 'is expanded, so that its elements share memory'
    return None if value.is_floating_point() == parameter.is_floating_point() else f'is of {value.dtype}'


def _is_alike(value: Any, own: Any) -> bool:
    """Return whether a saved value of a schedule may replace its own."""
    if isinstance(own, Real):
        return isinstance(value, Real)
    if isinstance(own, str):  # what it schedules, such as lr
        return value == own
    if isinstance(own, (list, tuple)):
        same = isinstance(value, (list, tuple)) and len(value) == len(own)
        return same and all(map(_is_alike, value, own))
    return own is not None or value is None or isinstance(value, Real)


def _is_number(value: Any) -> bool:
    if isinstance(value, Tensor):
        return not value.is_nested and not value.is_meta and value.numel() == 1 and not value.is_complex()
    return isinstance(value, Real)


def _are_numbers(values: Any, count: int) -> bool:
    same = isinstance(values, (list, tuple)) and len(values) == count
    return same and all(value is None or _is_number(value) for value in values)  # eps of Adafactor is (None, 0.001)
