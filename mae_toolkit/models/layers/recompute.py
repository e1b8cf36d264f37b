"""Save memory at the cost of time: recompute activations in the backward pass, all of them or the cheap ones."""

import operator
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

EXPENSIVE = {torch.ops.aten.convolution.default, torch.ops.aten.addmm.default, torch.ops.aten.mm.default}
NOT_IN_PLACE: dict[Any, Callable] = {operator.iadd: operator.add, operator.imul: operator.mul}


class Recomputing:
    """A module that may recompute activations in the backward pass to save memory: the argument ``with_cp``.

    Attributes:
        with_cp: Whether it does so in training.
    """

    with_cp: bool = False
    training: bool

    def run(self, function: Callable, *inputs: Any) -> Any:
        """Run a block, or a function whose first input is the block, keeping its inputs alone if ``with_cp``.

        A block whose parameters are there only while it runs, as under FSDP2, has a method ``run_function``, which
        gathers them for a function from outside; see :class:`~mae_toolkit.engine.fsdp.FSDP2`.
        """
        around = getattr(inputs[0], 'run_function', None) if inputs and isinstance(inputs[0], nn.Module) else None
        if around is not None:
            return around(partial(self._run_block, function), *inputs)
        return self._run_block(function, *inputs)

    def _run_block(self, function: Callable, *inputs: Any) -> Any:
        if self.with_cp and self.training:
            return checkpoint(function, *inputs, use_reentrant=False)
        return function(*inputs)


def keep_inputs(module: nn.Module, *inputs: Any) -> Any:
    """Run a module, keeping its inputs alone for the backward pass; batch norms count a batch once."""
    return checkpoint(
        module, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), _hold_statistics(module))
    )


def keep_convolutions(module: nn.Module, *inputs: Any) -> Any:
    """Run a module, keeping the results of convolutions and matrix products alone for the backward pass.

    Batch norms do not count a batch twice when it is recomputed. What is kept must not be overwritten: see
    :func:`avoid_in_place`.
    """
    return checkpoint(module, *inputs, use_reentrant=False, context_fn=partial(_contexts, module))


def avoid_in_place(module: fx.GraphModule) -> None:
    """Let no layer of a traced network work in place, which would change the tensors that are kept."""
    layer: Any
    for layer in module.modules():
        if getattr(layer, 'inplace', False):
            layer.inplace = False
    for node in module.graph.nodes:
        if node.op == 'call_function':
            node.target = NOT_IN_PLACE.get(node.target, node.target)
        if node.op == 'call_method':
            node.target = node.target.removesuffix('_')
        if node.kwargs.get('inplace'):
            node.kwargs = node.kwargs | {'inplace': False}
    module.recompile()


def _contexts(module: nn.Module) -> tuple[AbstractContextManager, AbstractContextManager]:
    first, again = create_selective_checkpoint_contexts(_policy)
    return first, _both(again, _hold_statistics(module))


def _policy(context: Any, op: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if op in EXPENSIVE else CheckpointPolicy.PREFER_RECOMPUTE


@contextmanager
def _both(first: AbstractContextManager, second: AbstractContextManager) -> Iterator[None]:
    with first, second:
        yield


@contextmanager
def _hold_statistics(module: nn.Module) -> Iterator[None]:
    """Let batch norms normalize by the batch without moving their running statistics."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    before = [(m.momentum, m.num_batches_tracked) for m in norms]
    for m in norms:
        m.momentum, m.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for m, (momentum, count) in zip(norms, before, strict=True):
            m.momentum, m.num_batches_tracked = momentum, count
