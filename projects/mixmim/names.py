"""The formats of MixMIM's checkpoints: of the official code (Sense-X/MixMIM), and of mmpretrain."""

from mae_toolkit.checkpoints.names.openmmlab import BLOCK, MAE_NECK
from mae_toolkit.checkpoints.names.swin import SWIN_BODY
from mae_toolkit.checkpoints.names.table import BODY, Format, Table, same, under
from mae_toolkit.checkpoints.names.transformer import FIXED_POSITIONS, MAE_DECODER, MAE_PREDICTION
from mae_toolkit.checkpoints.names.values import PATCH_MERGING

MIXMIM = Format(
    'MixMIM',
    ('layers.0.downsample.', 'decoder_{part:embed|blocks|pred}.'),
    (
        ('absolute_pos_embed', None),  # fixed
        *under('', SWIN_BODY, BODY),
        *FIXED_POSITIONS,
        *MAE_DECODER,
        *MAE_PREDICTION,
    ),
    whole=True,
)

MMPRETRAIN_BLOCK: Table = (
    *BLOCK,
    *same('norm{n:1|2}.{param}', 'attn.relative_position_bias_table'),  # norms as older releases call them
    ('attn.relative_position_index', None),
)
MMPRETRAIN_BODY: Table = (
    ('absolute_pos_embed', None),  # fixed
    ('patch_embed.projection.{param}', BODY + 'patch_embed.proj.{param}'),
    *under('', same('patch_embed.norm.{param}', 'norm.{param}'), BODY),
    *under('layers.{stage}.blocks.{block}.', MMPRETRAIN_BLOCK, BODY + 'layers.{stage}.blocks.{block}.'),
    # A patch merging ends a stage there, and begins the next one in timm.
    (
        'layers.{stage}.downsample.{layer:norm|reduction}.{param}',
        BODY + 'layers.{stage+1}.downsample.{layer}.{param}',
        PATCH_MERGING,
    ),
)
MMPRETRAIN_MIXMIM = Format(
    "mmpretrain's MixMIM",
    ('backbone.layers.0.blocks.', 'neck.decoder_{part:embed|blocks|pred}.'),
    (*under('backbone.', MMPRETRAIN_BODY), *MAE_NECK),
    whole=True,
)
