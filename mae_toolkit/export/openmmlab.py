"""Encoders under the names of the backbones of MMDetection, MMSegmentation and MMPretrain.

The tables are those by which their checkpoints are read, see :mod:`mae_toolkit.checkpoints.names.openmmlab`.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from mae_toolkit.checkpoints.names.openmmlab import CONVNEXT, DEEP_RESNET, RESNET, SWIN, VIT
from mae_toolkit.checkpoints.names.table import Table, to_theirs
from mae_toolkit.errors import UserError


class Family(NamedTuple):
    """Backbones that are built by one class.

    Attributes:
        name: Name of the class.
        marks: Names of timm that all of them have.
        table: Names of the class and timm's.
        layouts: The programs that have the class.
    """

    name: str
    marks: tuple[str, ...]
    table: Table
    layouts: tuple[str, ...]


LAYOUTS = ('mmdet', 'mmseg', 'mmpretrain')
FAMILIES = (
    Family('ResNet', ('layer1.0.conv1.weight', 'conv1.0.weight'), DEEP_RESNET, LAYOUTS),
    Family('ResNet', ('layer1.0.conv1.weight',), RESNET, LAYOUTS),
    Family('SwinTransformer', ('layers.0.blocks.0.attn.relative_position_bias_table',), SWIN, LAYOUTS),
    Family('ConvNeXt', ('stages.0.blocks.0.conv_dw.weight',), CONVNEXT, ('mmpretrain',)),
    Family('VisionTransformer', ('blocks.0.attn.qkv.weight',), VIT, ('mmpretrain',)),
)


def to_openmmlab(state: Mapping[str, Tensor], layout: str) -> dict[str, Tensor]:
    """Rename an encoder for the backbone of another program.

    Args:
        state: The tensors by timm's names.
        layout: One of ``LAYOUTS``.

    Returns:
        The tensors by the names of the backbone.

    Raises:
        UserError: If the program has no such network, or the encoder has a part that its class lacks.
    """
    family = find_family(state)
    if family is None or layout not in family.layouts:
        kinds = ', '.join(dict.fromkeys(f.name for f in FAMILIES if layout in f.layouts))
        what = 'This network' if family is None else f'A {family.name}'
        raise UserError(f'{what} has no place in the layout {layout!r}, which has {kinds}; --format timm takes all.')
    body = {name: tensor for name, tensor in state.items() if not name.startswith('head.')}  # timm's classifier
    result, strange = to_theirs(family.table, body)
    if strange:
        raise UserError(
            f'The {family.name} of {layout!r} has no place for {len(strange)} of the weights, such as {strange[0]}: '
            'it is another variant of the network; --format timm takes all.'
        )
    return result | _make_indices(result) if family.name == 'SwinTransformer' else result


def find_family(names: Iterable[str]) -> Family | None:
    """Find the family of a network by timm's names of its tensors; None if it is of none."""
    names = set(names)
    return next((family for family in FAMILIES if names.issuperset(family.marks)), None)


def _make_indices(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Make the buffers that their Swin saves beside each table of relative positions: the entry of each pair of tokens.

    A window of W x W tokens has an index (W*W, W*W) into its table ((2W-1)*(2W-1), heads).
    """
    indices = {}
    for name, table in state.items():
        if name.endswith('relative_position_bias_table'):
            window = (round(len(table) ** 0.5) + 1) // 2
            y, x = torch.meshgrid(torch.arange(window), torch.arange(window), indexing='ij')
            place = torch.stack([y.flatten(), x.flatten()])  # (2, W*W)
            offset = place[:, :, None] - place[:, None] + window - 1  # (2, W*W, W*W)
            indices[name.replace('bias_table', 'index')] = offset[0] * (2 * window - 1) + offset[1]
    return indices
