"""MAE (facebookresearch/mae), and UM-MAE's ViT (implus/UM-MAE), which has a mask token for visible patches, too."""

from mae_toolkit.checkpoints.names.table import BODY, MASK_TOKEN, Format, Table, same, under
from mae_toolkit.checkpoints.names.transformer import BLOCK, FIXED_POSITIONS, MAE_DECODER, MAE_PREDICTION
from mae_toolkit.checkpoints.names.values import TOKEN

VIT: Table = (
    *same('{table:cls_token|pos_embed}', 'patch_embed.proj.{param}', 'norm.{param}'),
    *under('blocks.{block}.', BLOCK, 'blocks.{block}.'),
)

TABLE = (*under('', VIT, BODY), *FIXED_POSITIONS, *MAE_DECODER, *MAE_PREDICTION)

UMMAE_VIT = Format(
    'UM-MAE of a ViT',
    ('vis_mask_token', 'cls_token', 'decoder_{part:pred|embed|blocks}.'),
    (('vis_mask_token', MASK_TOKEN, TOKEN), *TABLE),
    whole=True,
)
MAE = Format('MAE', ('decoder_{part:pred|embed|blocks}.',), TABLE, whole=True)
