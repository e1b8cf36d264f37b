"""Names in the checkpoints of UM-MAE's official code (implus/UM-MAE)."""

from itertools import accumulate

from mae_toolkit.checkpoints.names import Method
from mae_toolkit.checkpoints.names.architectures import BLOCKS, WB
from mae_toolkit.checkpoints.names.method import MASK_TOKEN, under
from mae_toolkit.checkpoints.names.methods import BODY, HEAD
from mae_toolkit.checkpoints.names.tensors import mae_prediction

IN_BLOCK = (
    rf'norm[12]\.{WB}',
    rf'attn\.(?:qkv|proj|posmlp\.[02])\.{WB}',
    rf'mlp\.fc[12]\.{WB}',
)


def ummae_of_a_swin(depths):
    """The names of a Swin whose stages have so many blocks, which the official code counts through."""
    ends = list(accumulate(depths))

    def place(match):
        number = int(match['block'])
        stage = sum(number >= end for end in ends)
        if match['rest'].startswith('downsample'):
            return f'{BODY}layers.{stage}.{match["rest"]}'
        return f'{BODY}layers.{stage}.blocks.{number - (ends[stage] - depths[stage])}.{match["rest"]}'

    inside = '|'.join((*IN_BLOCK, rf'downsample\.(?:norm|proj)\.{WB}')).replace(WB, r'(?:weight|bias)')
    names = (
        (rf'patch_embed\.(proj|norm)\.{WB}', BODY + r'patch_embed.\1.\2'),
        (rf'blocks\.(?P<block>\d+)\.(?P<rest>{inside})', place),
        (rf'norm\.{WB}', BODY + r'norm.\1'),
        (r'vis_mask_token', MASK_TOKEN),
        (r'mask_token', 'decoder.mask_token'),
        (r'decoder_pos_embed', None),  # fixed
        (rf'decoder_embed\.{WB}', r'decoder.embed.\1'),
        *under(r'decoder_blocks\.', BLOCKS, 'decoder.blocks.'),
        (rf'decoder_norm\.{WB}', r'decoder.norm.\1'),
        (rf'decoder_pred\.{WB}', HEAD),
    )
    return Method('UM-MAE of a Swin', (r'blocks\.0\.attn\.posmlp\.',), names, mae_prediction, whole=True)
