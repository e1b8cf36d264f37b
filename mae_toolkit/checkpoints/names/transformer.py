"""Parts of plain transformers, and MAE's decoder, whose names many methods have kept."""

from mae_toolkit.checkpoints.names.table import HEAD, Table, same, under
from mae_toolkit.checkpoints.names.values import LINEAR_AS_CONV, LINEAR_PREDICTION, PREDICTION, TOKEN

# A block, by timm's own names; BEiT's has biases of queries and values, and a scale of each of its two layers.
BLOCK = same('norm{n:1|2}.{param}', 'attn.{layer:qkv|proj}.{param}', 'mlp.fc{n:1|2}.{param}')
BEIT_BLOCK = (*BLOCK, *same('gamma_{n:1|2}', 'attn.{bias:q_bias|v_bias}'))

# MAE's decoder, without positions and prediction head.
MAE_DECODER: Table = (
    ('mask_token', 'decoder.mask_token', TOKEN),
    ('decoder_embed.{param}', 'decoder.embed.0.{param}'),
    *under('decoder_blocks.{block}.', BLOCK, 'decoder.blocks.{block}.'),
    ('decoder_norm.{param}', 'decoder.norm.{param}'),
)
FIXED_POSITIONS: Table = (('decoder_pos_embed', None),)
# A linear prediction head, in MAE's order of rows, and in ours.
MAE_PREDICTION: Table = (
    ('decoder_pred.weight', f'{HEAD}weight', LINEAR_PREDICTION),
    ('decoder_pred.bias', f'{HEAD}bias', PREDICTION),
)
PLAIN_PREDICTION: Table = (
    ('decoder_pred.weight', f'{HEAD}weight', LINEAR_AS_CONV),
    ('decoder_pred.bias', f'{HEAD}bias'),
)
