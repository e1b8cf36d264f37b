"""The backbones of MMDetection, MMSegmentation and MMPretrain that exported weights fit."""

import importlib
import importlib.util
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from mae_toolkit.errors import UserError

# Depths of ResNets by their numbers of blocks, and whether these are bottlenecks.
RESNETS = {
    ((2, 2, 2, 2), False): 18,
    ((3, 4, 6, 3), False): 34,
    ((3, 4, 6, 3), True): 50,
    ((3, 4, 23, 3), True): 101,
    ((3, 8, 36, 3), True): 152,
}


def backbone_config(state: Mapping[str, Tensor], layout: str) -> dict[str, Any] | None:
    """Make the config of the backbone that takes weights whole.

    Args:
        state: The weights by the names of the backbone.
        layout: ``'mmdet'``, ``'mmseg'`` or ``'mmpretrain'``.

    Returns:
        ``type`` and arguments; None if no class is known for them.
    """
    if 'layer1.0.conv1.weight' in state:
        return _resnet(state)
    if 'stages.0.blocks.0.attn.w_msa.qkv.weight' in state and layout != 'mmpretrain':
        return _swin(state)
    if 'downsample_layers.0.0.weight' in state:
        return _convnext(state)
    return None


def build_backbone(config: Mapping[str, Any], layout: str) -> nn.Module | None:
    """Build the backbone of a config in evaluation mode; return None if the program is not installed."""
    if importlib.util.find_spec(layout) is None:
        return None
    cls = getattr(importlib.import_module(f'{layout}.models.backbones'), config['type'])
    network = cls(**{key: value for key, value in config.items() if key != 'type'})
    network.eval()  # which returns nothing in some of them
    return network


def with_all_stages(config: dict[str, Any]) -> dict[str, Any]:
    """Change the config of a backbone to give the map of every stage, as detectors and segmenters want it."""
    stages = len(config['arch']['depths']) if isinstance(config.get('arch'), dict) else None
    stages = stages or config.get('num_stages') or len(config['depths'])
    return config | {'out_indices': tuple(range(stages))}


def as_file(state: dict[str, Tensor], layout: str) -> dict[str, Tensor]:
    """Rename weights of a backbone to what its ``init_cfg=dict(type='Pretrained', ...)`` reads from a file.

    They are the backbone's own names, but MMDetection's Swin takes only names that begin with ``backbone.``.
    """
    if layout == 'mmdet' and any('.attn.w_msa.' in name for name in state):
        return {f'backbone.{name}': value for name, value in state.items()}
    return state


def load_strictly(network: nn.Module, state: Mapping[str, Tensor], name: str | None = None) -> None:
    """Load weights, none of which may be missing and none too many.

    Args:
        network: The network that receives them.
        state: The weights by its names.
        name: What the network is called in a message; its class by default.

    Raises:
        UserError: If they do not fit.
    """
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        reason = ' '.join(str(error).split())
        raise UserError(f'The weights do not fit {name or type(network).__name__}: {reason}') from None


def _count(names: Iterable[str], pattern: str) -> int:
    """Count what is numbered from 0 in names."""
    names, count = set(names), 0
    while pattern.format(count) in names:
        count += 1
    return count


def _resnet(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    stages = 0
    while f'layer{stages + 1}.0.conv1.weight' in state:
        stages += 1
    blocks = tuple(_count(state, f'layer{i + 1}.{{}}.conv1.weight') for i in range(stages))
    bottleneck = 'layer1.0.conv3.weight' in state
    depths = [n for (counts, kind), n in RESNETS.items() if kind == bottleneck and counts[:stages] == blocks]
    kind = 'ResNet'
    if 'stem.0.weight' in state:
        kind = 'ResNetV1d' if _pools_in_shortcuts(state) else 'ResNetV1c'
    if not depths or state['layer1.0.conv1.weight'].shape[0] != 64:
        return None
    config = dict(type=kind, depth=depths[0], num_stages=stages, out_indices=(stages - 1,))
    return config | dict(strides=(1, 2, 2, 2)[:stages], dilations=(1,) * stages)


def _pools_in_shortcuts(state: Mapping[str, Tensor]) -> bool:
    """Tell whether a pooling stands before the convolution of a shortcut, as in ResNet-D: the convolution is second."""
    second = state.get('layer2.0.downsample.1.weight')
    return second is not None and second.dim() == 4


def _swin(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    stages = _count(state, 'stages.{}.blocks.0.norm1.weight')
    tables = [state[f'stages.{i}.blocks.0.attn.w_msa.relative_position_bias_table'] for i in range(stages)]
    if len({len(table) for table in tables}) > 1:  # a map smaller than the window, for which their class pads
        return None
    patch = state['patch_embed.projection.weight'].shape
    return dict(
        type='SwinTransformer',
        embed_dims=patch[0],
        patch_size=patch[-1],
        strides=(patch[-1], 2, 2, 2)[:stages],
        window_size=(round(len(tables[0]) ** 0.5) + 1) // 2,
        depths=tuple(_count(state, f'stages.{i}.blocks.{{}}.norm1.weight') for i in range(stages)),
        num_heads=tuple(table.shape[1] for table in tables),
        out_indices=(stages - 1,) if f'norm{stages - 1}.weight' in state else (),
    )


def _convnext(state: Mapping[str, Tensor]) -> dict[str, Any]:
    stages = _count(state, 'downsample_layers.{}.0.weight')
    grn = 'stages.0.0.grn.gamma' in state
    return dict(
        type='ConvNeXt',
        arch=dict(
            depths=[_count(state, f'stages.{i}.{{}}.norm.weight') for i in range(stages)],
            channels=[state[f'stages.{i}.0.norm.weight'].shape[0] for i in range(stages)],
        ),
        use_grn=grn,
        layer_scale_init_value=0.0 if grn else 1e-6,
        gap_before_final_norm=False,
        out_indices=[],
    )
