"""Swin and Swin V2 (microsoft/Swin-Transformer)."""

from mae_toolkit.checkpoints.names.table import BODY, Format, Table, same, under

SWIN_BODY: Table = (
    *same('patch_embed.{layer:proj|norm}.{param}'),
    # A patch merging ends a stage there, and begins the next one in timm.
    ('layers.{stage}.downsample.{layer:norm|reduction}.{param}', 'layers.{stage+1}.downsample.{layer}.{param}'),
    *same(
        'layers.{stage}.blocks.{block}.{layer:norm[12]|attn\\.(?:qkv|proj|cpb_mlp\\.[02])|mlp\\.fc[12]}.{param}',
        'layers.{stage}.blocks.{block}.attn.{name:relative_position_bias_table|logit_scale|q_bias|v_bias}',
        'norm.{param}',
    ),
    ('layers.{stage}.blocks.{block}.{buffer:attn_mask|attn\\.relative_(?:position_index|coords_table)}', None),
)

ABSOLUTE_POSITIONS: Table = (('absolute_pos_embed', 'encoder.positions.pos_embed'),)

SWIN = Format(
    'the official Swin',
    ('layers.0.downsample.',),
    (*ABSOLUTE_POSITIONS, *under('', SWIN_BODY, BODY), ('head.{param}', None)),
)
