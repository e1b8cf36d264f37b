"""SimMIM (microsoft/SimMIM): a Swin, or a ViT of BEiT's kind, with a mask token and a linear prediction."""

from mae_toolkit.checkpoints.names.swin import ABSOLUTE_POSITIONS, SWIN_BODY
from mae_toolkit.checkpoints.names.table import BODY, HEAD, MASK_TOKEN, Format, Table, same, under
from mae_toolkit.checkpoints.names.transformer import BEIT_BLOCK
from mae_toolkit.checkpoints.names.values import TOKEN

TOKEN_AND_PREDICTION: Table = (('encoder.mask_token', MASK_TOKEN, TOKEN), ('decoder.0.{param}', HEAD + '{param}'))
BEIT: Table = (
    *same('cls_token', 'pos_embed', 'patch_embed.proj.{param}', 'norm.{param}'),
    *under('blocks.{block}.', BEIT_BLOCK, 'blocks.{block}.'),
    # Relative positions that all blocks share, or of each block.
    *same('{place:rel_pos_bias|blocks\\.\\d+\\.attn}.relative_position_bias_table'),
    ('{place:rel_pos_bias|blocks\\.\\d+\\.attn}.relative_position_index', None),
)

SIMMIM_SWIN = Format(
    'SimMIM of a Swin',
    ('encoder.layers.',),
    (*under('encoder.', (*ABSOLUTE_POSITIONS, *under('', SWIN_BODY, BODY))), *TOKEN_AND_PREDICTION),
    whole=True,
)
SIMMIM_VIT = Format(
    'SimMIM of a ViT',
    ('encoder.blocks.',),
    (*under('encoder.', under('', BEIT, BODY)), *TOKEN_AND_PREDICTION),
    whole=True,
)
