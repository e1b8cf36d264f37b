"""MAE (facebookresearch/mae)."""

from mae_toolkit.checkpoints.names.table import BODY, Format, Table, same, under
from mae_toolkit.checkpoints.names.transformer import BLOCK, FIXED_POSITIONS, MAE_DECODER, MAE_PREDICTION

VIT: Table = (
    *same('{table:cls_token|pos_embed}', 'patch_embed.proj.{param}', 'norm.{param}'),
    *under('blocks.{block}.', BLOCK, 'blocks.{block}.'),
)

MAE = Format(
    'MAE',
    ('decoder_{part:pred|embed|blocks}.',),
    (*under('', VIT, BODY), *FIXED_POSITIONS, *MAE_DECODER, *MAE_PREDICTION),
    whole=True,
)
