"""GreenMIM (LayneH/GreenMIM): a Swin with MAE's decoder."""

from mae_toolkit.checkpoints.names.swin import ABSOLUTE_POSITIONS, SWIN_BODY
from mae_toolkit.checkpoints.names.table import BODY, Format, under
from mae_toolkit.checkpoints.names.transformer import FIXED_POSITIONS, MAE_DECODER, MAE_PREDICTION

GREENMIM = Format(
    'GreenMIM',
    ('encoder.layers.', 'decoder_{part:embed|blocks|pred}.'),
    (
        *under('encoder.', (*ABSOLUTE_POSITIONS, *under('', SWIN_BODY, BODY))),
        *FIXED_POSITIONS,
        *MAE_DECODER,
        *MAE_PREDICTION,
    ),
    whole=True,
)
