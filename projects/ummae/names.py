"""The format of the checkpoints of UM-MAE's official code (implus/UM-MAE)."""

from collections.abc import Iterator, Sequence

from mae_toolkit.checkpoints.names.table import BODY, MASK_TOKEN, Format, Pair, same, under
from mae_toolkit.checkpoints.names.transformer import FIXED_POSITIONS, MAE_DECODER, MAE_PREDICTION
from mae_toolkit.checkpoints.names.values import TOKEN

IN_BLOCK = same('norm{n:1|2}.{param}', 'attn.{layer:qkv|proj|posmlp\\.[02]}.{param}', 'mlp.fc{n:1|2}.{param}')


def ummae_format(depths: Sequence[int]) -> Format:
    """Make the format of a Swin whose stages have these numbers of blocks, which the official code counts through."""
    return Format(
        'UM-MAE of a Swin',
        ('blocks.0.attn.posmlp.',),
        (
            *under('', same('patch_embed.{layer:proj|norm}.{param}', 'norm.{param}'), BODY),
            *_count_through(depths),
            ('vis_mask_token', MASK_TOKEN, TOKEN),
            *FIXED_POSITIONS,
            ('decoder_embed.{param}', 'decoder.embed.{param}'),
            *MAE_DECODER,
            *MAE_PREDICTION,
        ),
        whole=True,
    )


def _count_through(depths: Sequence[int]) -> Iterator[Pair]:
    """List the names of all blocks; in the official code the merging before a stage belongs to its first block."""
    number = 0
    for stage, depth in enumerate(depths):
        merging = f'blocks.{number}.downsample.{{layer:norm|proj}}.{{param}}'
        yield merging, f'{BODY}layers.{stage}.downsample.{{layer}}.{{param}}'
        for block in range(depth):
            yield from under(f'blocks.{number}.', IN_BLOCK, f'{BODY}layers.{stage}.blocks.{block}.')
            number += 1
