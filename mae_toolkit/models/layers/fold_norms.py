"""Batch norms within the convolutions before them, for networks that are not trained further."""

from collections import Counter
from typing import Any

import torch
from timm.layers import Conv2dSame
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from mae_toolkit.models.layers.sparse_graph import run_across_cells

FOLDABLE = (nn.Conv2d, Conv2dSame)  # and no subclasses, which may do something else with their weights


@torch.no_grad()
def fold_batch_norms(network: fx.GraphModule) -> int:
    """Let convolutions do what the batch norms after them do in evaluation, in place.

    A batch norm then multiplies and shifts each channel by constants, as can the weights and the bias of the
    convolution. Results differ by rounding. A convolution that is used more than once, or whose output others read, is
    left as it is.

    Args:
        network: What :func:`~.sparse_graph.trace_sparse_graph` made of a network.

    Returns:
        How many were folded.
    """
    graph, modules = network.graph, dict(network.named_modules())
    calls = Counter(node.target for node in graph.nodes if node.op in ('call_module', 'get_attr'))
    folded = 0
    for node in list(graph.nodes):
        norm = modules.get(node.target) if node.op == 'call_module' else None
        if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None or norm.running_var is None:
            continue
        before: Any = node.args[0]
        name = _find_module(before)
        convolution = modules.get(name)
        if not isinstance(convolution, nn.Conv2d) or type(convolution) not in FOLDABLE:
            continue
        if calls[name] > 1 or len(before.users) > 1:
            continue
        weight, bias = fuse_conv_bn_weights(
            convolution.weight,
            convolution.bias,
            norm.running_mean,
            norm.running_var,
            norm.eps,
            norm.weight,
            norm.bias,
        )
        convolution.weight, convolution.bias = weight, bias
        node.replace_all_uses_with(before)
        graph.erase_node(node)
        folded += 1
    network.recompile()
    return folded


def _find_module(node: Any) -> str:
    """Return the name of the module that a node runs; empty if it runs none."""
    if node.op == 'call_module':
        return node.target
    return node.args[0].target if node.op == 'call_function' and node.target is run_across_cells else ''
