"""Names in the checkpoints of MixMIM's official code (Sense-X/MixMIM)."""

from mae_toolkit.checkpoints.names import Method
from mae_toolkit.checkpoints.names.architectures import BLOCKS, SWIN, WB
from mae_toolkit.checkpoints.names.method import under
from mae_toolkit.checkpoints.names.methods import BODY, HEAD
from mae_toolkit.checkpoints.names.tensors import mae_prediction

MIXMIM = Method(
    'MixMIM',
    (r'layers\.0\.downsample\.', r'decoder_(embed|blocks|pred)\.'),
    (
        (r'absolute_pos_embed|decoder_pos_embed', None),  # fixed
        *under('', SWIN[:-1], BODY),
        (r'mask_token', 'decoder.mask_token'),
        (rf'decoder_embed\.{WB}', r'decoder.embed.0.\1'),
        *under(r'decoder_blocks\.', BLOCKS, 'decoder.blocks.'),
        (rf'decoder_norm\.{WB}', r'decoder.norm.\1'),
        (rf'decoder_pred\.{WB}', HEAD),
    ),
    mae_prediction,
    whole=True,
)
