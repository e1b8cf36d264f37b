"""What an optimizer needs where parameters are sharded over processes."""

from collections.abc import Callable, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.optim import OptimWrapper
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from mae_toolkit.engine.fsdp import FSDP2, cut_shard
from mae_toolkit.engine.optim import AutocastOptimWrapper
from mae_toolkit.errors import UserError

# Their steps treat each element by itself, so that a shard steps as it would within the whole.
ELEMENTWISE = ('SGD', 'Adam', 'AdamW', 'Adamax', 'NAdam', 'RAdam', 'RMSprop', 'Adagrad', 'Adadelta', 'Rprop', 'Lion')


def prepare_optim_wrapper(wrapper: Any, model: FSDP2) -> None:
    """Let an optimizer wrapper clip, save and load gradients and states that are sharded.

    Raises:
        UserError: If the optimizer, the type or the wrapper does not go with sharded parameters.
    """
    if not isinstance(wrapper, OptimWrapper) or hasattr(wrapper, 'loss_scaler'):
        raise UserError(
            f'FSDP2 trains with OptimWrapper or AutocastOptimWrapper, not with {type(wrapper).__name__}: choose '
            'AutocastOptimWrapper with bfloat16.'
        )
    optimizer = wrapper.optimizer
    names = [cls.__name__ for cls in type(optimizer).mro()]
    if not set(names) & set(ELEMENTWISE):
        raise UserError(
            f'FSDP2: {names[0]} looks at whole parameters, of which each process holds a part: choose AdamW, or leave '
            'model_wrapper_cfg out for data parallelism.'
        )
    is_mixed = isinstance(wrapper, AutocastOptimWrapper) and wrapper.dtype == torch.bfloat16
    if model.param_dtype and not is_mixed:
        raise UserError(
            f"FSDP2: param_dtype={model.param_dtype!r} goes with optim_wrapper=dict(type='AutocastOptimWrapper', "
            "dtype='bfloat16'), or --amp: set it, or leave param_dtype out."
        )
    if wrapper.clip_grad_kwargs:
        wrapper.clip_func = _clip_whole(wrapper.clip_func)
    optimizer.register_load_state_dict_pre_hook(shard_state)


def shard_state(optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    """Cut the whole states in a state dict to those of this process's shards; what is sharded stays as it is.

    Args:
        optimizer: The optimizer of sharded parameters.
        state_dict: A state dict, as one process alone would have it; it is not changed.
    """
    parameters = [p for group in optimizer.param_groups for p in group['params']]
    numbers = [number for group in state_dict['param_groups'] for number in group['params']]
    states = dict(state_dict['state'])
    for number, parameter in zip(numbers, parameters, strict=False):  # torch refuses what does not fit
        if number in states and isinstance(parameter, DTensor):
            states[number] = {key: _shard(value, parameter) for key, value in states[number].items()}
    return state_dict | {'state': states}


@contextmanager
def whole_state(optimizer: Optimizer):  # type: ignore[no-untyped-def]
    """Let the main process's ``optimizer.state_dict()`` be that of a single process in a ``with`` block.

    All processes enter it, and each state is gathered on the CPU of the main one.
    """
    gathered = _gather(optimizer.state_dict())
    handle = optimizer.register_state_dict_post_hook(lambda *_: gathered)
    try:
        yield
    finally:
        handle.remove()


def _gather(value: Any) -> Any:
    if isinstance(value, DTensor):
        whole = value.full_tensor()
        return whole.cpu() if is_main_process() else None
    if isinstance(value, Mapping):
        return {key: _gather(one) for key, one in value.items()}
    return value


def _shard(value: Any, parameter: DTensor) -> Any:
    if not isinstance(value, Tensor) or isinstance(value, DTensor) or value.shape != parameter.shape:
        return value
    shape, stride = parameter.shape, parameter.stride()
    local = cut_shard(parameter, value).contiguous()
    return DTensor.from_local(
        local, parameter.device_mesh, parameter.placements, run_check=False, shape=shape, stride=stride
    )


def _clip_whole(clip: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function for clipping whose norm is that of the whole gradient, as a number that can be logged."""

    def clip_whole(*args: Any, **kwargs: Any) -> Any:
        norm = clip(*args, **kwargs)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    return clip_whole
