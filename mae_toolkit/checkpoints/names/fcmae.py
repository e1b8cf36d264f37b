"""FCMAE (facebookresearch/ConvNeXt-V2): a sparse ConvNeXt V2 of MinkowskiEngine and a decoder of one dense block."""

from mae_toolkit.checkpoints.names.convnext import BLOCK, STAGES
from mae_toolkit.checkpoints.names.table import BODY, HEAD, Format, Table, under
from mae_toolkit.checkpoints.names.values import (
    CONV_AS_LINEAR,
    DEPTHWISE_KERNEL,
    KERNEL,
    MAP_TOKEN,
    POINTWISE,
    PREDICTION,
    unit_dims,
)

ROW = unit_dims('1 C', 'C')  # biases of MinkowskiEngine
SPARSE_BLOCK: Table = (
    ('dwconv.kernel', 'conv_dw.weight', DEPTHWISE_KERNEL),
    ('dwconv.bias', 'conv_dw.bias', ROW),
    ('norm.ln.{param}', 'norm.{param}'),
    ('pwconv{n:1|2}.linear.weight', 'mlp.fc{n}.weight', POINTWISE),
    ('pwconv{n:1|2}.linear.bias', 'mlp.fc{n}.bias'),
    ('grn.gamma', 'mlp.grn.weight', ROW),
    ('grn.beta', 'mlp.grn.bias', ROW),
)
SPARSE_STAGES: Table = (
    ('downsample_layers.0.{layer:[01]}.{param}', 'stem.{layer}.{param}'),  # dense there, too
    ('downsample_layers.{stage:[1-3]}.0.ln.{param}', 'stages.{stage}.downsample.0.{param}'),
    ('downsample_layers.{stage:[1-3]}.1.kernel', 'stages.{stage}.downsample.1.weight', KERNEL),
    ('downsample_layers.{stage:[1-3]}.1.bias', 'stages.{stage}.downsample.1.bias', ROW),
    *under('stages.{stage}.{block}.', SPARSE_BLOCK, 'stages.{stage}.blocks.{block}.'),
)
DECODER: Table = (
    ('mask_token', 'decoder.mask_token', MAP_TOKEN),
    ('proj.weight', 'decoder.embed.0.weight', CONV_AS_LINEAR),
    ('proj.bias', 'decoder.embed.0.bias'),
    *under('decoder.{block}.', BLOCK, 'decoder.blocks.{block}.'),
    ('pred.{param}', HEAD + '{param}', PREDICTION),
)

FCMAE = Format(
    'FCMAE of ConvNeXt V2',
    ('encoder.stages.{stage}.{block}.dwconv.kernel',),
    (*under('encoder.', SPARSE_STAGES, BODY), *DECODER),
    whole=True,
)
DENSE_FCMAE = Format(
    'FCMAE of ConvNeXt V2 with dense layers',
    ('encoder.{part:downsample_layers|stages}.',),
    (*under('encoder.', STAGES, BODY), *DECODER),
    whole=True,
)
