"""Count the floating-point operations that a training step needs for each image."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from mae_toolkit.engine._mmengine import compute_losses
from mae_toolkit.flops import count_flops

IMAGES = 2  # mixup takes pairs


def copy_to_cpu(model: nn.Module) -> nn.Module:
    """Copy a model to the CPU, without a second copy of it on its device, as the first step towards counting.

    Args:
        model: The model with all its parameters, before hooks are registered on it and before it is compiled.

    Returns:
        The copy, which recomputes no activations.
    """
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach().cpu().clone(), requires_grad=parameter.requires_grad)
    for buffer in model.buffers():
        memo[id(buffer)] = buffer.detach().cpu().clone()
    copied = copy.deepcopy(model, memo).cpu()
    for module in copied.modules():
        if getattr(module, 'with_cp', False):
            setattr(module, 'with_cp', False)  # noqa: B010  what is computed twice to save memory is no more work
    return copied


def count_flops_per_image(model: Any, batch: dict[str, Any]) -> float:
    """Count the operations of forward and backward pass for an image, in a training step of a few images.

    Random generators are left as they were.

    Args:
        model: What :func:`copy_to_cpu` returns; it gets gradients.
        batch: A batch of the training's data loader.
    """
    few = {key: _take_first(value) for key, value in batch.items()}
    images = max(len(value) for value in few.values() if isinstance(value, list | tuple | Tensor))

    def run() -> None:
        losses = compute_losses(model, few)
        model.parse_losses(losses)[0].backward()

    model.train()
    for module in model.modules():
        if hasattr(module, 'running_mean'):  # a batch norm, which would exchange its sums with other processes
            module.eval()
    with torch.random.fork_rng([]):
        return count_flops(run) / images


def _take_first(value: Any) -> Any:
    """Return what belongs to the first images: of a tensor or list of the whole batch, the first entries."""
    if isinstance(value, Tensor):
        return value[:IMAGES].cpu()
    return value[:IMAGES] if isinstance(value, list | tuple) else value
