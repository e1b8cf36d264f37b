"""CrossMAE (TonyLianLong/CrossMAE): a decoder that attends to all levels of the encoder, optionally to itself, too."""

from mae_toolkit.checkpoints.names.mae import VIT
from mae_toolkit.checkpoints.names.table import BODY, Format, under
from mae_toolkit.checkpoints.names.transformer import FIXED_POSITIONS, MAE_DECODER, MAE_PREDICTION

CROSSMAE = Format(
    'CrossMAE',
    ('dec_norms.{block}.', 'decoder_blocks.{block}.cross_attn.'),
    (
        *under('', VIT, BODY),
        ('wfm.linear.weight', 'decoder.level_weights'),
        ('dec_norms.{block}.{param}', 'decoder.blocks.{block}.norm_context.{param}'),
        (
            'decoder_blocks.{block}.cross_attn.{layer:q|kv|proj}.{param}',
            'decoder.blocks.{block}.cross_attn.{layer}.{param}',
        ),
        ('decoder_blocks.{block}.norm0.{param}', 'decoder.blocks.{block}.norm0.{param}'),
        (
            'decoder_blocks.{block}.self_attn.{layer:qkv|proj}.{param}',
            'decoder.blocks.{block}.self_attn.{layer}.{param}',
        ),
        *FIXED_POSITIONS,
        *MAE_DECODER,
        *MAE_PREDICTION,
    ),
    whole=True,
)
