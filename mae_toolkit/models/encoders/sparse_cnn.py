"""Any convolutional network of timm, on the visible cells of images."""

import re
from collections.abc import Collection, Sequence
from copy import deepcopy
from math import ceil
from typing import Any

import torch
from timm.models import group_parameters
from torch import Tensor, fx, nn

from mae_toolkit.errors import UserError
from mae_toolkit.models.cells import Cells, Packing, pack
from mae_toolkit.models.encoders.timm_body import check_frozen, create_body
from mae_toolkit.models.encoders.timm_encoder import TimmEncoder
from mae_toolkit.models.features import Features
from mae_toolkit.models.layers.fold_norms import fold_batch_norms
from mae_toolkit.models.layers.recompute import avoid_in_place, keep_convolutions
from mae_toolkit.models.layers.sparse_graph import measure_levels, trace_sparse_graph
from mae_toolkit.models.layers.sync_batch_norm import split_activations, synchronize
from mae_toolkit.registry import MODELS
from mae_toolkit.timm_models import TimmModule

BLOCK = re.compile(r'layer(\d)\.(\d+)\.')


@MODELS.register_module()
class SparseCNN(TimmEncoder):
    """Any CNN of timm (ResNet, RegNet, EfficientNet, MobileNet, HRNet, ...), run on the visible cells.

    The network is traced once. Operators that reach across cells (a 3x3 convolution, an overlapping pooling) see the
    whole map, hidden cells being outside of it: zero, or minus infinity before a maximum. All others run on the packed
    visible cells (:class:`~mae_toolkit.models.cells.Packing`): 1x1 convolutions, activations, and what sums over
    space (batch and group norms, squeeze-and-excitation, global pooling), which thus sum over what is visible. Results
    are those of SparK (arXiv:2301.03580, section 3.2). Images of any size are padded to a multiple of the unit.

    Args:
        arch: Name in timm, such as ``'resnet50'``.
        in_chans: Channels of the images.
        out_indices: Levels as timm counts them for this architecture (a ResNet's are its stem and its four stages); the
            last one if None. What only later levels need is not built.
        out_norms: Apply a layer norm to each output.
        frozen_stages: Freeze what comes before the end of this level; -1 for nothing.
        norm_eval: Let batch norms keep their running statistics.
        sync_bn: Compute the statistics of batch norms over what is visible in all processes.
        with_cp: Keep the outputs of convolutions alone and recompute the rest in the backward pass to save memory.
        init_cfg: See :class:`Encoder`.
        **kwargs: Arguments of timm, such as ``drop_path_rate``.

    Attributes:
        arch: Name in timm. Some architectures share all parameters and differ in what they compute with them.

    Raises:
        UserError: If timm does not know the architecture, or an operator in it cannot be handled (which one).
    """

    ends_with_norm = True  # of batches

    def __init__(
        self,
        arch: str = 'resnet50',
        in_chans: int = 3,
        out_indices: Sequence[int] | int | None = None,
        out_norms: bool = False,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        sync_bn: bool = False,
        with_cp: bool = False,
        init_cfg: dict | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(init_cfg)
        self.arch = arch
        body = create_body(arch, (nn.Module,), '', in_chans=in_chans, **kwargs)
        with torch.device('meta'):
            probe = create_body(arch, (nn.Module,), '', in_chans=in_chans, **kwargs)
        for network in (body, probe):
            split_activations(network)
        names = _level_names(arch, body)
        self.set_body(body, len(names), out_indices, f'levels ({", ".join(names)})')
        if -1 in self.out_indices:
            raise UserError(
                f'SparseCNN has the levels 0 to {len(names) - 1} ({", ".join(names)}) and no embedded input, -1.'
            )
        graph = trace_sparse_graph(arch, probe.train(), [names[i] for i in self.out_indices])
        self.out_channels, self.out_strides, self.mask_unit = measure_levels(arch, probe.eval(), graph, in_chans)
        self._depths = group_parameters(body, body.group_matcher(), reverse=True)
        self.body = fx.GraphModule(body, graph)
        self.in_chans, self.with_cp = in_chans, with_cp
        if sync_bn:
            synchronize(self.body)
        if with_cp:
            avoid_in_place(self.body)
        self.set_norms(out_norms)
        frozen_stages = check_frozen(frozen_stages, max(self.out_indices), 'levels')
        self.freeze(self._modules_before(names[frozen_stages]) if frozen_stages >= 0 else [], norm_eval)

    def stages(self, x: Tensor, cells: Cells | None) -> Features:
        """Run the network on the visible cells, see :meth:`Encoder.stages`."""
        packing = self.packing(cells)
        x = pack(x.contiguous(memory_format=torch.channels_last), packing)  # (B, C, V*u, u)
        return self.outputs(dict(zip(self.out_indices, self._run(x, packing), strict=True)), packing)

    def list_blocks(self) -> Sequence[nn.Module]:
        """Return the whole network, which is one graph, see :meth:`Encoder.list_blocks`."""
        return (self.body,)

    def layer_depth(self, name: str, grouping: str = 'block') -> tuple[int, int]:
        """Return the depth of a parameter and the greatest, see :meth:`Encoder.layer_depth`.

        ``'block'`` groups the layers of the architecture as timm does; what is not in the body is deepest. ``'group'``
        has the few groups of SparK's recipes for ResNets, see :func:`find_resnet_group`.
        """
        if grouping == 'group':
            return find_resnet_group(name.removeprefix('body.'), self._depths)
        deepest = max(self._depths.values()) + 1
        return self._depths.get(name.removeprefix('body.'), deepest), deepest

    def for_inference(self) -> 'SparseCNN':
        """Return a copy whose batch norms are part of the convolutions, see :meth:`Encoder.for_inference`."""
        copy = deepcopy(self).eval().requires_grad_(False)
        fold_batch_norms(copy.body)
        return copy

    def _run(self, x: Tensor, packing: Packing | None) -> Sequence[Tensor]:
        if self.with_cp and self.training:
            return keep_convolutions(self.body, x, packing)
        return self.body(x, packing)

    def _modules_before(self, level: str) -> list[nn.Module]:
        """Return the modules that run up to the end of a level."""
        nodes = list(self.body.graph.nodes)
        inside = [i for i, node in enumerate(nodes) if level in _modules_of(node)]
        targets = [
            node.target for node in nodes[: max(inside, default=-1) + 1] if node.op in ('call_module', 'get_attr')
        ]
        return [m for m in map(self.body.get_submodule, targets) if isinstance(m, nn.Module)]


def find_resnet_group(name: str, names: Collection[str]) -> tuple[int, int]:
    """Return the depth of a parameter of a ResNet and the greatest depth, by the groups of SparK's fine-tuning.

    The stem is 0, stages 1 and 4 are a group each, stages 2 and 3 are cut into groups of 2 and 3 blocks, of 4 and 4 in
    the networks with more than four blocks in stage 2 (the official code; 7 depths for ResNet-50, 13 for ResNet-101).

    Args:
        name: Name of the parameter.
        names: Names of all parameters.

    Raises:
        UserError: If the network has no such stages.
    """
    blocks = {tuple(map(int, found.groups())) for found in map(BLOCK.match, names) if found}
    if {stage for stage, _ in blocks} != {1, 2, 3, 4}:
        raise UserError("grouping='group' is for ResNets, whose blocks are layer1.0 to layer4.n: use 'block'.")
    second, third = (max(block for stage, block in blocks if stage == s) + 1 for s in (2, 3))
    steps = (2, 3) if second == 4 else (4, 4)
    groups = ceil(second / steps[0]), ceil(third / steps[1])
    last = 2 + sum(groups)
    found = BLOCK.match(name)
    if found is None:
        return (0 if name in names else last + 1), last + 1
    stage, block = map(int, found.groups())
    before = {1: 1, 2: 2 + block // steps[0], 3: 2 + groups[0] + block // steps[1], 4: last}
    return before[stage], last + 1


def _modules_of(node: fx.Node) -> set[str]:
    return {*node.meta.get('nn_module_stack', {}), node.target if node.op == 'call_module' else ''}


def _level_names(arch: str, body: TimmModule) -> list[str]:
    info = getattr(body, 'feature_info', None)
    if not info or not all(isinstance(level, dict) and 'module' in level for level in info):
        raise UserError(f'SparseCNN finds no feature levels in {arch!r}: timm does not name them.')
    return [level['module'] for level in info]
