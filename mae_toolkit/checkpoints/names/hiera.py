"""Hiera's masked autoencoder (facebookresearch/hiera), with positions of the image, or of image and window."""

from mae_toolkit.checkpoints.names.table import BODY, Format, Table, same, under
from mae_toolkit.checkpoints.names.transformer import BLOCK, MAE_DECODER, PLAIN_PREDICTION

SIGN = 'multi_scale_fusion_heads.'
TABLE: Table = (
    *under('', same('pos_embed_win', 'patch_embed.proj.{param}', 'blocks.{block}.proj.{param}'), BODY),
    *under('blocks.{block}.', BLOCK, BODY + 'blocks.{block}.'),
    ('encoder_norm.{param}', 'decoder.fusion.norm.{param}'),
    ('multi_scale_fusion_heads.{level}.{param}', 'decoder.fusion.heads.{level}.{param}'),
    ('decoder_pos_embed', 'decoder.positions.pos_embed'),
    *MAE_DECODER,
    *PLAIN_PREDICTION,
)

HIERA_ABSWIN = Format(
    'Hiera MAE with window positions',
    (SIGN, 'pos_embed_abs', 'pos_embed_win'),
    (('pos_embed_abs', BODY + 'pos_embed'), *TABLE),
    whole=True,
)
HIERA = Format('Hiera MAE', (SIGN,), (('pos_embed', BODY + 'pos_embed'), *TABLE), whole=True)
