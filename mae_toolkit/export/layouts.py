"""Names of weights in the backbones of MMDetection, MMSegmentation and MMPretrain, from timm's.

A table has a line per name: a pattern that holds for the whole of timm's name, and theirs. What is more than a name
(the order of channels, shapes) is in the functions beside it.
"""

import re
from typing import NamedTuple

import torch

from mae_toolkit.errors import UserError

PART = r'(weight|bias)'
# ResNet and ResNet-D; a deep stem, which timm calls conv1, is theirs of ResNetV1d.
RESNET = [
    (r'conv1\.weight', 'conv1.weight'),
    (r'bn1\.(.+)', r'bn1.\1'),
    (r'(layer\d\.\d+\.(?:conv[123]|bn[123]|downsample\.\d))\.(.+)', r'\1.\2'),
]
DEEP_STEM = [(r'conv1\.(\d)\.(.+)', r'stem.\1.\2'), (r'bn1\.(.+)', r'stem.7.\1'), RESNET[-1]]
SWIN = [
    (rf'patch_embed\.proj\.{PART}', r'patch_embed.projection.\1'),
    (rf'patch_embed\.norm\.{PART}', r'patch_embed.norm.\1'),
    (rf'layers\.(\d)\.blocks\.(\d+)\.(norm[12])\.{PART}', r'stages.\1.blocks.\2.\3.\4'),
    (r'layers\.(\d)\.blocks\.(\d+)\.attn\.(relative_position_bias_table)', r'stages.\1.blocks.\2.attn.w_msa.\3'),
    (rf'layers\.(\d)\.blocks\.(\d+)\.attn\.(qkv|proj)\.{PART}', r'stages.\1.blocks.\2.attn.w_msa.\3.\4'),
    (rf'layers\.(\d)\.blocks\.(\d+)\.mlp\.fc1\.{PART}', r'stages.\1.blocks.\2.ffn.layers.0.0.\3'),
    (rf'layers\.(\d)\.blocks\.(\d+)\.mlp\.fc2\.{PART}', r'stages.\1.blocks.\2.ffn.layers.1.\3'),
    (r'layers\.1\.downsample\.(.+)', r'stages.0.downsample.\1'),  # which timm counts to the stage after it
    (r'layers\.2\.downsample\.(.+)', r'stages.1.downsample.\1'),
    (r'layers\.3\.downsample\.(.+)', r'stages.2.downsample.\1'),
    (rf'norm\.{PART}', r'norm3.\1'),
]
CONVNEXT = [
    (rf'stem\.([01])\.{PART}', r'downsample_layers.0.\1.\2'),
    (rf'stages\.(\d)\.downsample\.([01])\.{PART}', r'downsample_layers.\1.\2.\3'),
    (rf'stages\.(\d)\.blocks\.(\d+)\.conv_dw\.{PART}', r'stages.\1.\2.depthwise_conv.\3'),
    (rf'stages\.(\d)\.blocks\.(\d+)\.norm\.{PART}', r'stages.\1.\2.norm.\3'),
    (rf'stages\.(\d)\.blocks\.(\d+)\.mlp\.fc([12])\.{PART}', r'stages.\1.\2.pointwise_conv\3.\4'),
    (r'stages\.(\d)\.blocks\.(\d+)\.mlp\.grn\.weight', r'stages.\1.\2.grn.gamma'),
    (r'stages\.(\d)\.blocks\.(\d+)\.mlp\.grn\.bias', r'stages.\1.\2.grn.beta'),
    (r'stages\.(\d)\.blocks\.(\d+)\.gamma', r'stages.\1.\2.gamma'),
]
VIT = [
    (r'(cls_token|pos_embed)', r'\1'),
    (rf'patch_embed\.proj\.{PART}', r'patch_embed.projection.\1'),
    (rf'blocks\.(\d+)\.norm([12])\.{PART}', r'layers.\1.ln\2.\3'),
    (rf'blocks\.(\d+)\.attn\.(qkv|proj)\.{PART}', r'layers.\1.attn.\2.\3'),
    (rf'blocks\.(\d+)\.mlp\.fc1\.{PART}', r'layers.\1.ffn.layers.0.0.\2'),
    (rf'blocks\.(\d+)\.mlp\.fc2\.{PART}', r'layers.\1.ffn.layers.1.\2'),
    (rf'norm\.{PART}', r'ln1.\1'),
]


class Family(NamedTuple):
    """Networks of one kind.

    Attributes:
        name: As their class is called.
        mark: A name that all of them have in timm.
        table: Patterns of timm's names, and theirs.
        layouts: Who has the class.
    """

    name: str
    mark: str
    table: list
    layouts: tuple[str, ...]


LAYOUTS = ('mmdet', 'mmseg', 'mmpretrain')
FAMILIES = (
    Family('ResNet', 'layer1.0.conv1.weight', RESNET, LAYOUTS),
    Family('SwinTransformer', 'layers.0.blocks.0.attn.relative_position_bias_table', SWIN, LAYOUTS),
    Family('ConvNeXt', 'stages.0.blocks.0.conv_dw.weight', CONVNEXT, ('mmpretrain',)),
    Family('VisionTransformer', 'blocks.0.attn.qkv.weight', VIT, ('mmpretrain',)),
)


def renamed(state, layout):
    """An encoder under the names of another program's backbone.

    Args:
        state (dict[str, Tensor]): Under timm's names.
        layout (str): One of ``LAYOUTS``.

    Returns:
        dict[str, Tensor]: Under theirs.

    Raises:
        UserError: If they have no such network, or it has a part that theirs lacks.
    """
    family = family_of(state)
    if family is None or layout not in family.layouts:
        kinds = ', '.join(f.name for f in FAMILIES if layout in f.layouts)
        what = 'This network' if family is None else f'A {family.name}'
        raise UserError(f'{what} has no place in the layout {layout!r}, which has {kinds}; --format timm takes all.')
    table = DEEP_STEM if family.name == 'ResNet' and 'conv1.0.weight' in state else family.table
    patterns = [(re.compile(pattern), name) for pattern, name in table]
    result, strange = {}, []
    for key, tensor in state.items():
        if key.startswith('head.'):  # of timm's classifier
            continue
        found = next(((m, name) for pattern, name in patterns if (m := pattern.fullmatch(key))), None)
        if found is None:
            strange.append(key)
        else:
            result[found[0].expand(found[1])] = _converted(family.name, key, tensor)
    if strange:
        raise UserError(
            f'The {family.name} of {layout!r} has no place for {len(strange)} of the weights, such as {strange[0]}: '
            'it is another variant of the network; --format timm takes all.'
        )
    if family.name == 'SwinTransformer':
        result |= _indices(result)
    return result


def family_of(state):
    """The family of a network, by a name that it has, or None."""
    return next((family for family in FAMILIES if family.mark in state), None)


def _converted(family, key, tensor):
    if family == 'SwinTransformer' and '.downsample.' in key:
        return _merged(tensor)
    if family == 'ConvNeXt' and '.mlp.fc' in key and tensor.dim() == 4:  # the 1x1 convolutions of the small ones
        return tensor.flatten(1)
    return tensor


def _merged(tensor):
    """Patch merging: what is 4 groups of C channels, column before row, is C groups of 4 there, row before column."""
    groups = tensor.unflatten(-1, (2, 2, -1))  # (..., column, row, C)
    return groups.transpose(-3, -2).movedim(-1, -3).flatten(-3)  # (..., C, row, column)


def _indices(state):
    """The buffer beside each table of relative positions, which theirs save: for each pair of tokens its entry."""
    indices = {}
    for key, table in state.items():
        if key.endswith('relative_position_bias_table'):
            window = (round(len(table) ** 0.5) + 1) // 2
            y, x = torch.meshgrid(torch.arange(window), torch.arange(window), indexing='ij')
            place = torch.stack([y.flatten(), x.flatten()])  # (2, W*W)
            apart = place[:, :, None] - place[:, None] + window - 1
            indices[key.replace('bias_table', 'index')] = apart[0] * (2 * window - 1) + apart[1]
    return indices
