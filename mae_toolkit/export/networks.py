"""The backbones of MMDetection, MMSegmentation and MMPretrain that exported weights fit."""

import importlib
import importlib.util

from mae_toolkit.errors import UserError

RESNETS = {
    ((2, 2, 2, 2), False): 18,
    ((3, 4, 6, 3), False): 34,
    ((3, 4, 6, 3), True): 50,
    ((3, 4, 23, 3), True): 101,
    ((3, 8, 36, 3), True): 152,
}


def backbone_config(state, layout):
    """Config of the backbone that takes these weights whole, as a config of backbone_config would have it, or None.

    Args:
        state (dict[str, Tensor]): Under their names.
        layout (str): ``'mmdet'``, ``'mmseg'`` or ``'mmpretrain'``.

    Returns:
        dict | None: ``type`` and arguments; None where no class of backbone_config is known for it.
    """
    if 'layer1.0.conv1.weight' in state:
        return _resnet(state)
    if 'stages.0.blocks.0.attn.w_msa.qkv.weight' in state and layout != 'mmpretrain':
        return _swin(state)
    if 'downsample_layers.0.0.weight' in state:
        return _convnext(state)
    return None


def build_backbone(config, layout):
    """The backbone of a config, in evaluation mode, or None where the program is not installed."""
    if importlib.util.find_spec(layout) is None:
        return None
    cls = getattr(importlib.import_module(f'{layout}.models.backbones'), config['type'])
    network = cls(**{key: value for key, value in config.items() if key != 'type'})
    network.eval()  # which returns nothing in some of backbone_config
    return network


def with_all_stages(config):
    """A backbone's config as a detector or segmenter would have it: with the map of every stage."""
    stages = len(config['arch']['depths']) if isinstance(config.get('arch'), dict) else None
    stages = stages or config.get('num_stages') or len(config['depths'])
    return config | {'out_indices': tuple(range(stages))}


def as_file(state, layout):
    """Weights under the names that ``init_cfg=dict(type='Pretrained', ...)`` of a backbone reads from a file.

    Those of the backbone itself, but MMDetection's Swin takes names alone that begin with ``backbone.``.
    """
    if layout == 'mmdet' and any('.attn.w_msa.' in name for name in state):
        return {f'backbone.{name}': value for name, value in state.items()}
    return state


def load_strictly(network, state):
    """Load weights of which none is missing and none too many.

    Raises:
        UserError: If they do not fit.
    """
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        text = ' '.join(str(error).split())
        raise UserError(f'The weights do not fit {type(network).__name__}: {text}') from None


def _count(state, pattern):
    """How many there are of something that is counted from 0 in names."""
    count = 0
    while pattern.format(count) in state:
        count += 1
    return count


def _resnet(state):
    stages = 0
    while f'layer{stages + 1}.0.conv1.weight' in state:
        stages += 1
    blocks = tuple(_count(state, f'layer{i + 1}.{{}}.conv1.weight') for i in range(stages))
    bottleneck = 'layer1.0.conv3.weight' in state
    depths = [n for (counts, kind), n in RESNETS.items() if kind == bottleneck and counts[:stages] == blocks]
    kind = 'ResNet'
    if 'stem.0.weight' in state:
        kind = 'ResNetV1d' if 'layer2.0.downsample.1.weight' in state and _is_conv(state) else 'ResNetV1c'
    if not depths or state['layer1.0.conv1.weight'].shape[0] != 64:
        return None
    config = dict(type=kind, depth=depths[0], num_stages=stages, out_indices=(stages - 1,))
    return config | dict(strides=(1, 2, 2, 2)[:stages], dilations=(1,) * stages)


def _is_conv(state):
    """Whether a pooling stands before the convolution of a shortcut, as in ResNet-D."""
    return state['layer2.0.downsample.1.weight'].dim() == 4


def _swin(state):
    stages = _count(state, 'stages.{}.blocks.0.norm1.weight')
    tables = [state[f'stages.{i}.blocks.0.attn.w_msa.relative_position_bias_table'] for i in range(stages)]
    if len({len(table) for table in tables}) > 1:  # a map smaller than the window, for which backbone_config pads
        return None
    return dict(
        type='SwinTransformer',
        embed_dims=state['patch_embed.projection.weight'].shape[0],
        patch_size=state['patch_embed.projection.weight'].shape[-1],
        strides=(state['patch_embed.projection.weight'].shape[-1], 2, 2, 2)[:stages],
        window_size=(round(len(tables[0]) ** 0.5) + 1) // 2,
        depths=tuple(_count(state, f'stages.{i}.blocks.{{}}.norm1.weight') for i in range(stages)),
        num_heads=tuple(table.shape[1] for table in tables),
        out_indices=(stages - 1,) if f'norm{stages - 1}.weight' in state else (),
    )


def _convnext(state):
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
