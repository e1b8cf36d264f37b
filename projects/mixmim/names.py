"""The format of the checkpoints of MixMIM's official code (Sense-X/MixMIM)."""

from mae_toolkit.checkpoints.names.swin import SWIN_BODY
from mae_toolkit.checkpoints.names.table import BODY, Format, under
from mae_toolkit.checkpoints.names.transformer import FIXED_POSITIONS, MAE_DECODER, MAE_PREDICTION

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
