"""Less memory for more time: recomputing activations in the backward pass, all or what is cheap."""

import operator
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

EXPENSIVE = {torch.ops.aten.convolution.default, torch.ops.aten.addmm.default, torch.ops.aten.mm.default}
NOT_IN_PLACE = {operator.iadd: operator.add, operator.imul: operator.mul}


def keep_inputs(module, *inputs):
    """Run a module, keeping its inputs alone for the backward pass; batch norms count a batch once."""
    return checkpoint(
        module, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), _statistics_held(module))
    )


def keep_convolutions(module, *inputs):
    """Run a module, keeping the results of convolutions and matrix products alone for the backward pass.

    Batch norms do not count a batch twice when it is recomputed. What is kept must not be overwritten: see
    :func:`avoid_in_place`.
    """
    return checkpoint(module, *inputs, use_reentrant=False, context_fn=partial(_contexts, module))


def avoid_in_place(module):
    """Let a ``GraphModule`` and its layers overwrite nothing: an activation in place would change what is kept."""
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


def _contexts(module):
    first, again = create_selective_checkpoint_contexts(_policy)
    return first, _both(again, _statistics_held(module))


def _policy(context, op, *args, **kwargs):
    return CheckpointPolicy.MUST_SAVE if op in EXPENSIVE else CheckpointPolicy.PREFER_RECOMPUTE


@contextmanager
def _both(first, second):
    with first, second:
        yield


@contextmanager
def _statistics_held(module):
    """Batch norms normalize by the batch, but their running statistics stay."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    before = [(m.momentum, m.num_batches_tracked) for m in norms]
    for m in norms:
        m.momentum, m.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for m, (momentum, count) in zip(norms, before, strict=True):
            m.momentum, m.num_batches_tracked = momentum, count
