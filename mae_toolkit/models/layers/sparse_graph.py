"""A traced network in which only the operators that reach across cells see whole maps.

On packed cells (see :class:`~mae_toolkit.models.cells.Packing`) all that stays within a cell, or sums over space,
runs as it is. The graph is rewritten so that what reaches further unpacks its input and packs its output; the packing
is the graph's second input. Everything that is not known to be either is refused.
"""

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from timm.layers import DropPath, get_notrace_functions, get_notrace_modules
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional

from mae_toolkit.errors import UserError
from mae_toolkit.models.cells import Packing, pack, unpack

POINTWISE_FUNCTIONS = {
    *(operator.add, operator.iadd, operator.sub, operator.mul, operator.imul, operator.truediv, operator.pow),
    *(operator.getitem, operator.floordiv, operator.matmul, operator.eq, getattr, torch._assert),
    *(torch.add, torch.mul, torch.cat, torch.stack, torch.chunk, torch.split, torch.relu, torch.sigmoid, torch.tanh),
    *(torch.softmax, torch.flatten, torch.reshape, torch.transpose, torch.permute, torch.clamp, torch.matmul),
    *(torch.mean, torch.sum, torch.max, torch.amax),
    *(functional.relu, functional.relu6, functional.silu, functional.gelu, functional.hardsigmoid),
    *(functional.hardswish, functional.hardtanh, functional.leaky_relu, functional.sigmoid, functional.softmax),
    *(functional.dropout, functional.softplus),
}
POINTWISE_METHODS = (
    'add add_ mul mul_ sub div sigmoid sigmoid_ relu relu_ tanh clamp clamp_ softmax float type to contiguous size dim '
    'view reshape flatten unflatten permute transpose chunk split expand expand_as unsqueeze squeeze view_as type_as '
    'mean sum amax pow sqrt rsqrt square abs clone matmul'
).split()
REDUCTIONS = ('mean', 'sum', 'amax', 'max')
# What normalizes, activates or drops: within a position, or by sums over space. timm has many activations.
POINTWISE_MODULES = (
    *(nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.Linear, nn.Identity, DropPath, nn.Conv1d),
    *(nn.modules.dropout._DropoutNd, nn.Flatten, nn.Softmax),
)
POINTWISE_SOURCES = ('torch.nn.modules.activation', 'timm.layers.activations', 'timm.layers.norm')


class _Tracer(fx.Tracer):
    """Tracer that does not look into windows, norms, drop path (which depends on the mode) and what timm cannot trace.

    It also reads the rewritten graph again when that is unpickled.
    """

    def __init__(self) -> None:
        super().__init__(autowrap_functions=(run_across_cells, *get_notrace_functions()))
        self.leaves = (*get_notrace_modules(), nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, *POINTWISE_MODULES)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, self.leaves) or super().is_leaf_module(m, module_qualified_name)


def trace_sparse_graph(arch: str, network: nn.Module, levels: Sequence[str]) -> fx.Graph:
    """Trace a network to a graph with a second input, the packing, whose outputs are packed.

    Args:
        arch: Name of the architecture, for errors.
        network: The network, after :func:`~mae_toolkit.models.layers.sync_batch_norm.split_activations`.
        levels: Names of the modules whose outputs are returned.

    Returns:
        ``forward(imgs, packing) -> tuple`` of packed maps.

    Raises:
        UserError: If it cannot be traced, or an operator cannot be handled.
    """
    try:
        graph = fx.GraphModule(network, _Tracer().trace(network)).graph
    except Exception as error:  # a forward method may fail in any way on a symbolic input
        reason = str(error).splitlines()[0]
        raise UserError(f'SparseCNN cannot trace {arch!r}: {reason}; choose another architecture.') from error
    modules = dict(network.named_modules())
    _run_activations(graph, modules)
    _return_levels(arch, graph, levels)
    imgs = next(node for node in graph.nodes if node.op == 'placeholder')
    with graph.inserting_after(imgs):
        packing = graph.placeholder('packing', default_value=None)
    for node in list(graph.nodes):
        if obstacle := _find_obstacle(node, modules):
            raise UserError(f'SparseCNN cannot handle {arch!r}: {obstacle} works across cells in a way of its own.')
        if node.op == 'call_module' and _reaches_across(modules[node.target]):
            _give_whole_map(graph, node, packing)
    graph.lint()
    return graph


def run_across_cells(module: nn.Module, packing: Packing | None, x: Tensor, *others: Any) -> Tensor:
    """Run an operator on the map of packed cells (B, C, V*u, u), hidden cells being outside of it, and pack again.

    Args:
        module: The operator.
        packing: The cells; None for a whole map.
        x: The packed map.
        *others: Further inputs of the operator.
    """
    if packing is None:
        return module(x, *others)
    if isinstance(module, nn.MaxPool2d):
        return pack(module(unpack(x, packing, -torch.inf)), packing)
    y = pack(module(unpack(x, packing), *others), packing)
    if isinstance(module, nn.AvgPool2d) and not module.count_include_pad:  # the mean over the positions inside the map
        y = y / pack(module(unpack(torch.ones_like(x[:, :1]), packing)), packing)
    return y


def measure_levels(
    arch: str, network: nn.Module, graph: fx.Graph, in_chans: int, side: int = 512
) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """Find channels and strides of the outputs, and the largest stride within, by running on shapes alone.

    Args:
        arch: Name of the architecture, for errors.
        network: The network, on the meta device.
        graph: What :func:`trace_sparse_graph` returned.
        in_chans: Channels of the images.
        side: Pixels of the square image.

    Returns:
        Channels, strides, and the largest stride.

    Raises:
        UserError: If an output is no map whose channels come first.
    """
    module = fx.GraphModule(network, graph)
    ShapeProp(module).propagate(torch.empty(1, in_chans, side, side, device='meta'), None)
    output: Any = graph.output_node()
    outputs = [node.meta['tensor_meta'].shape for node in output.args[0]]
    for shape in outputs:
        if len(shape) != 4 or shape[2] != shape[3]:  # (B, h, w, C)
            raise UserError(
                f'SparseCNN cannot handle {arch!r}: a square image becomes a map of shape {tuple(shape)}, where '
                '(B, C, h, w) is needed: choose an architecture whose channels come first.'
            )
    found = (node.meta.get('tensor_meta') for node in graph.nodes)
    sides = [meta.shape[-1] for meta in found if hasattr(meta, 'shape') and len(meta.shape) == 4]
    unit = side // min(n for n in sides if n > 1)  # 1: pooled over the whole map
    return tuple(shape[1] for shape in outputs), tuple(side // shape[-1] for shape in outputs), unit


def _run_activations(graph: fx.Graph, modules: Mapping[Any, Any]) -> None:
    """Run the layers that a batch norm holds after it."""
    for node in list(graph.nodes):
        if node.op != 'call_module' or not isinstance(modules[node.target], nn.BatchNorm2d):
            continue
        last = node
        for name, _ in modules[node.target].named_children():
            with graph.inserting_after(last):
                after = graph.call_module(f'{node.target}.{name}', (last,))
            last.replace_all_uses_with(after, lambda user, after=after: user is not after)
            stack = node.meta.get('nn_module_stack', {}) | {node.target: type(modules[node.target])}
            after.meta, last = {**node.meta, 'nn_module_stack': stack}, after


def _return_levels(arch: str, graph: fx.Graph, levels: Sequence[str]) -> None:
    """Let the graph return the outputs of these modules, and drop what they do not need."""
    ends = {}
    for node in graph.nodes:
        for name in node.meta.get('nn_module_stack', {}):
            ends[name] = node
        if node.op == 'call_module':
            ends[node.target] = node
    missing = [name for name in levels if name not in ends]
    if missing:
        raise UserError(f'SparseCNN finds no module {missing[0]!r} in the traced {arch!r}; choose other out_indices.')
    output = graph.output_node()
    output.args = (tuple(ends[name] for name in levels),)
    graph.eliminate_dead_code()


def _find_obstacle(node: fx.Node, modules: Mapping[Any, Any]) -> str | None:
    """Describe what keeps a node from running on packed cells; None if nothing does."""
    where = '.'.join(list(node.meta.get('nn_module_stack', {}))[-1:])
    if node.op == 'call_module':
        module = modules[node.target]
        known = isinstance(module, POINTWISE_MODULES) or type(module).__module__.startswith(POINTWISE_SOURCES)
        return (
            None
            if known or _is_windowed(module) or _is_repeat(module) or _is_global_pool(module)
            else (f'{node.target}, a {type(module).__name__},')
        )
    if node.op not in ('call_function', 'call_method'):
        return None
    name = node.target if node.op == 'call_method' else getattr(node.target, '__name__', str(node.target))
    known = name in POINTWISE_METHODS if node.op == 'call_method' else node.target in POINTWISE_FUNCTIONS
    if known and (name not in REDUCTIONS or _keeps_cells(node)):
        return None
    if node.target is functional.interpolate and node.kwargs.get('mode', 'nearest') == 'nearest':
        return None
    if node.target is functional.adaptive_avg_pool2d and node.args[1] in (1, (1, 1)):
        return None
    return f'{name} in {where or "forward"}'


def _keeps_cells(node: Any) -> bool:
    """Return whether a reduction is over channels or over all positions, not over rows or columns alone."""
    dims = node.args[1] if len(node.args) > 1 else node.kwargs.get('dim', ())
    dims = {dims} if isinstance(dims, int) else set(dims)
    return len(dims & {2, 3, -1, -2}) != 1


def _is_windowed(module: Any) -> bool:
    return isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) or hasattr(module, 'kernel_size')


def _is_repeat(module: Any) -> bool:
    return (isinstance(module, nn.Upsample) and module.mode == 'nearest') or isinstance(module, nn.PixelShuffle)


def _is_global_pool(module: Any) -> bool:
    return isinstance(module, nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d) and module.output_size in (1, (1, 1))


def _reaches_across(module: Any) -> bool:
    """Return whether an operator sees beyond a cell: its windows overlap, or are not aligned with cells."""
    if not _is_windowed(module) or isinstance(module, nn.Conv1d):
        return False
    kernel, stride, padding = (_pair(getattr(module, k)) for k in ('kernel_size', 'stride', 'padding'))
    if kernel == (1, 1):
        return padding != (0, 0)
    return kernel != stride or padding != (0, 0) or _pair(getattr(module, 'dilation', 1)) != (1, 1)


def _pair(value: Any) -> tuple:
    return (value, value) if isinstance(value, int | str) else tuple(value)


def _give_whole_map(graph: fx.Graph, node: Any, packing: fx.Node) -> None:
    with graph.inserting_before(node):
        module = graph.get_attr(node.target)
        whole = graph.call_function(run_across_cells, (module, packing, *node.args), node.kwargs)
    whole.meta = dict(node.meta)
    node.replace_all_uses_with(whole)
    graph.erase_node(node)
