"""Backbones of mmpretrain, mmdet and mmseg, whose names they share, and the pretraining of mmpretrain.

The tables of backbones have timm's names on our side: exporting reads them from right to left.
"""

from mae_toolkit.checkpoints.names.table import BODY, HEAD, MASK_TOKEN, Format, Table, same, under
from mae_toolkit.checkpoints.names.transformer import FIXED_POSITIONS
from mae_toolkit.checkpoints.names.values import LINEAR_PREDICTION, PATCH_MERGING, POINTWISE, PREDICTION, TOKEN

FFN: Table = (('ffn.layers.0.0.{param}', 'mlp.fc1.{param}'), ('ffn.layers.1.{param}', 'mlp.fc2.{param}'))
BLOCK: Table = (('ln{n:1|2}.{param}', 'norm{n}.{param}'), *same('attn.{layer:qkv|proj}.{param}'), *FFN)
SWIN_BLOCK: Table = (
    *same('norm{n:1|2}.{param}'),
    ('attn.w_msa.{layer:qkv|proj}.{param}', 'attn.{layer}.{param}'),
    ('attn.w_msa.relative_position_bias_table', 'attn.relative_position_bias_table'),
    ('attn.w_msa.{buffer:relative_position_index|relative_coords_table}', None),
    *FFN,
)
CONVNEXT_BLOCK: Table = (
    ('depthwise_conv.{param}', 'conv_dw.{param}'),
    ('norm.{param}', 'norm.{param}'),
    ('pointwise_conv{n:1|2}.weight', 'mlp.fc{n}.weight', POINTWISE),
    ('pointwise_conv{n:1|2}.bias', 'mlp.fc{n}.bias'),
    ('grn.gamma', 'mlp.grn.weight'),
    ('grn.beta', 'mlp.grn.bias'),
    ('gamma', 'gamma'),
)

VIT: Table = (
    *same('{table:cls_token|pos_embed}'),
    ('patch_embed.projection.{param}', 'patch_embed.proj.{param}'),
    *under('layers.{block}.', BLOCK, 'blocks.{block}.'),
    ('ln1.{param}', 'norm.{param}'),
)
SWIN: Table = (
    ('patch_embed.projection.{param}', 'patch_embed.proj.{param}'),
    *same('patch_embed.norm.{param}'),
    # A patch merging ends a stage there, and begins the next one in timm.
    (
        'stages.{stage}.downsample.{layer:norm|reduction}.{param}',
        'layers.{stage+1}.downsample.{layer}.{param}',
        PATCH_MERGING,
    ),
    *under('stages.{stage}.blocks.{block}.', SWIN_BLOCK, 'layers.{stage}.blocks.{block}.'),
    ('norm3.{param}', 'norm.{param}'),  # counted with the stages
)
CONVNEXT: Table = (
    ('downsample_layers.0.{layer:[01]}.{param}', 'stem.{layer}.{param}'),
    ('downsample_layers.{stage:[1-3]}.{layer:[01]}.{param}', 'stages.{stage}.downsample.{layer}.{param}'),
    *under('stages.{stage}.{block}.', CONVNEXT_BLOCK, 'stages.{stage}.blocks.{block}.'),
)
# ResNet and ResNet-D; a deep stem, which timm calls conv1, is that of ResNetV1c and ResNetV1d.
RESNET_STAGES = same('layer{stage}.{block}.{layer:conv[123]|bn[123]|downsample\\.\\d}.{norm_param}')
RESNET: Table = (*same('conv1.weight', 'bn1.{norm_param}'), *RESNET_STAGES)
DEEP_RESNET: Table = (
    ('stem.7.{norm_param}', 'bn1.{norm_param}'),
    ('stem.{layer:\\d}.{norm_param}', 'conv1.{layer}.{norm_param}'),
    *RESNET_STAGES,
)

# MAE's decoder.
MAE_NECK: Table = (
    ('neck.mask_token', 'decoder.mask_token', TOKEN),
    *under('neck.', FIXED_POSITIONS),
    ('neck.decoder_embed.{param}', 'decoder.embed.0.{param}'),
    *under('neck.decoder_blocks.{block}.', BLOCK, 'decoder.blocks.{block}.'),
    ('neck.ln1.{param}', 'decoder.norm.{param}'),
    ('neck.decoder_pred.weight', f'{HEAD}weight', LINEAR_PREDICTION),
    ('neck.decoder_pred.bias', f'{HEAD}bias', PREDICTION),
)

MMPRETRAIN_MAE = Format(
    "mmpretrain's MAE",
    ('neck.decoder_{part:pred|embed|blocks}.',),
    (*under('backbone.', VIT, BODY), *MAE_NECK),
    whole=True,
)
MMPRETRAIN_SIMMIM = Format(
    "mmpretrain's SimMIM of a Swin",
    ('backbone.stages.{stage}.blocks.', 'backbone.mask_token'),
    (
        *under('backbone.', SWIN, BODY),
        ('backbone.mask_token', MASK_TOKEN, TOKEN),
        ('neck.decoder.0.{param}', HEAD + '{param}'),
    ),
    whole=True,
)
MMPRETRAIN_MASKFEAT = Format(
    "mmpretrain's MaskFeat",
    ('backbone.layers.', 'backbone.mask_token'),
    (
        *under('backbone.', VIT, BODY),
        ('backbone.mask_token', MASK_TOKEN, TOKEN),
        ('neck.fc.{param}', None),
        ('target_generator.{buffer:weight_[xy]|gaussian_kernel}', None),
    ),
)

# What a classifier, detector or segmenter has behind its backbone, and norms of outputs that are not the last.
BEHIND: Table = (
    ('{part:neck|head|\\w+_head|data_preprocessor}.{rest:.+}', None),
    ('backbone.norm{n}.{param}', None),
)
OPENMMLAB_SWIN = Format(
    "OpenMMLab's Swin",
    ('backbone.stages.{stage}.blocks.{block}.attn.w_msa.',),
    (('backbone.absolute_pos_embed', 'encoder.positions.pos_embed'), *under('backbone.', SWIN, BODY), *BEHIND),
)
OPENMMLAB_VIT = Format("OpenMMLab's ViT", ('backbone.layers.0.ln1.',), (*under('backbone.', VIT, BODY), *BEHIND))
OPENMMLAB_CONVNEXT = Format(
    "OpenMMLab's ConvNeXt", ('backbone.stages.0.0.depthwise_conv.',), (*under('backbone.', CONVNEXT, BODY), *BEHIND)
)
OPENMMLAB_RESNET = Format(
    "OpenMMLab's ResNet with a deep stem",
    ('backbone.stem.0.', 'backbone.layer1.0.conv1.'),
    (*under('backbone.', DEEP_RESNET, BODY), *BEHIND),
)
OPENMMLAB = (OPENMMLAB_SWIN, OPENMMLAB_VIT, OPENMMLAB_CONVNEXT, OPENMMLAB_RESNET)
