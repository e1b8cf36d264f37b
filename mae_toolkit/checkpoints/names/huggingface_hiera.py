"""Hiera of Hugging Face's transformers, whose blocks lie in stages, where timm counts through all of them."""

from collections.abc import Iterator, Sequence

from mae_toolkit.checkpoints.names.huggingface import MODEL
from mae_toolkit.checkpoints.names.table import BODY, Format, Pair, Table, same, under
from mae_toolkit.checkpoints.names.transformer import PLAIN_PREDICTION
from mae_toolkit.checkpoints.names.values import TOKEN

# Blocks of each stage; those of the third tell which network it is.
DEPTHS = (
    (1, 2, 7, 2),  # tiny
    (1, 2, 11, 2),  # small
    (2, 3, 16, 3),  # base and base plus
    (2, 6, 36, 4),  # large and huge
)
LAYER: Table = (
    ('layernorm_before.{param}', 'norm1.{param}'),
    ('layernorm_after.{param}', 'norm2.{param}'),
    *same('attn.{layer:qkv|proj}.{param}', 'mlp.fc{n:1|2}.{param}', 'proj.{param}'),
)
DECODER: Table = (
    ('encoder_norm.{param}', 'decoder.fusion.norm.{param}'),
    ('multiscale_fusion.multi_scale_fusion_heads.{level}.{param}', 'decoder.fusion.heads.{level}.{param}'),
    ('decoder.decoder_position_embeddings', 'decoder.positions.pos_embed'),
    ('decoder.mask_token', 'decoder.mask_token', TOKEN),
    ('decoder.decoder_embeddings.{param}', 'decoder.embed.0.{param}'),
    *under('decoder.decoder_block.layers.{block}.', LAYER, 'decoder.blocks.{block}.'),
    ('decoder.decoder_norm.{param}', 'decoder.norm.{param}'),
    *under('decoder.', PLAIN_PREDICTION),
)


def huggingface_hiera_format(depths: Sequence[int]) -> Format:
    """Make the format of a network whose stages have these numbers of blocks.

    It recognizes longer networks, too, and has to stand behind their formats.
    """
    body: Table = (
        ('embeddings.patch_embeddings.projection.{param}', BODY + 'patch_embed.proj.{param}'),
        ('embeddings.position_embeddings', BODY + 'pos_embed'),
        *_count_through(depths),
        ('pooler.layernorm.{param}', None),
        ('classifier.{param}', None),
    )
    sign = f'{{model:(?:\\w+\\.)?}}encoder.stages.2.layers.{depths[2] - 1}.attn.'
    return Format(
        f"Hugging Face's Hiera of {sum(depths)} blocks", (sign,), (*body, *under(MODEL, body), *DECODER), whole=True
    )


def _count_through(depths: Sequence[int]) -> Iterator[Pair]:
    """List the names of all blocks."""
    number = 0
    for stage, depth in enumerate(depths):
        for block in range(depth):
            yield from under(f'encoder.stages.{stage}.layers.{block}.', LAYER, f'{BODY}blocks.{number}.')
            number += 1


HUGGINGFACE_HIERAS = tuple(huggingface_hiera_format(depths) for depths in reversed(DEPTHS))
