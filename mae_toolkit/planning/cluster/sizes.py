"""Sizes of a model and of what is kept of it between steps."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from mae_toolkit.planning.cluster.operators import OperatorRecorder
from mae_toolkit.registry import SCOPE

BUILD_KEYS = ('constructor', 'optimizer', 'paramwise_cfg')  # of an optim_wrapper: what the states follow from


@dataclass(frozen=True)
class ModelSize:
    """Numbers and bytes of a model.

    Attributes:
        parameters: Numbers in the parameters that are trained.
        trained: Bytes of these parameters.
        other: Bytes of frozen parameters and buffers, such as those of a teacher.
        states: Bytes of the optimizer's states.
        updated: Bytes that a step of the optimizer reads and writes.
        averaged: Bytes of the averages that an ``EMAHook`` keeps.
        block: Bytes of the largest block of the encoder.
        blocks: Number of blocks, the decoder for one.
    """

    parameters: int
    trained: int
    other: int
    states: int
    updated: int
    averaged: int
    block: int
    blocks: int

    @property
    def checkpoint(self) -> int:
        """Bytes of a checkpoint that can be resumed."""
        return self.trained + self.other + self.states + self.averaged


def measure_sizes(model: Any, cfg: Config) -> ModelSize:
    """Measure a model with the optimizer of its config, whose states it makes by a step with gradients of zero.

    Args:
        model: A masked autoencoder, on fake tensors within their mode, or a real one, whose weights are then changed.
        cfg: The config.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    others = [t for t in (*model.parameters(), *model.buffers()) if not t.requires_grad]
    hooks = [str(hook.get('type')) for hook in cfg.get('custom_hooks') or ()]
    averages = sum(kind.endswith('EMAHook') for kind in hooks)
    blocks: dict[int, int] = defaultdict(int)
    for name, parameter in model.encoder.named_parameters():
        blocks[model.encoder.layer_depth(name)[0]] += parameter.nbytes
    return ModelSize(
        sum(p.numel() for p in trained),
        count_bytes(trained),
        count_bytes(others),
        *count_optimizer_bytes(model, cfg),
        averages * count_bytes([*trained, *others]),
        max(blocks.values()),
        len(blocks) + 1,
    )


def build_optimizer(model: nn.Module, cfg: Config) -> torch.optim.Optimizer:
    """Build the optimizer of a config with its parameter groups."""
    init_default_scope(SCOPE)
    settings = {key: cfg.optim_wrapper[key] for key in BUILD_KEYS if key in cfg.optim_wrapper}
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.ERROR)  # the constructor lists every parameter
    try:
        return build_optim_wrapper(model, settings).optimizer
    finally:
        logger.setLevel(level)


def count_optimizer_bytes(model: nn.Module, cfg: Config) -> tuple[int, int]:
    """Make the optimizer of a config, let it step twice, and count bytes.

    Each operator of the second step reads and writes whole tensors, as those of torch's ``foreach`` optimizers do; one
    that is fused goes over weights, gradients and states once.

    Returns:
        Bytes of its states, and those that a step reads and writes.
    """
    optimizer = build_optimizer(model, cfg)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    states = count_bytes(v for state in optimizer.state.values() for v in state.values() if isinstance(v, Tensor))
    with (recorder := OperatorRecorder()):
        optimizer.step()
    optimizer.zero_grad()
    moved = sum(part.nbytes for operator in recorder.operators for part in (*operator.reads, *operator.writes))
    return states, 3 * count_bytes(trained) + 2 * states if cfg.optim_wrapper.optimizer.get('fused') else moved


def count_bytes(tensors: Iterable[Tensor]) -> int:
    """Add up the bytes of tensors."""
    return sum(tensor.nbytes for tensor in tensors)
