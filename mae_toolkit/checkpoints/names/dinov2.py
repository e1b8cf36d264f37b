"""DINOv2 (facebookresearch/dinov2), with or without registers, with an MLP or SwiGLU (ViT-g)."""

from mae_toolkit.checkpoints.names.table import BODY, MASK_TOKEN, Format, Table, same, under
from mae_toolkit.checkpoints.names.transformer import BLOCK
from mae_toolkit.checkpoints.names.values import CLASS_AND_SQUARE, unit_dims

DINOV2_BLOCK: Table = (*BLOCK, *same('ls{n:1|2}.gamma'))
SWIGLU: Table = (
    ('mlp.w12.{param}', 'mlp.fc1.{param}'),  # gate and value in one
    ('mlp.w3.{param}', 'mlp.fc2.{param}'),
)
ENDS: Table = (
    *same('cls_token', 'patch_embed.proj.{param}', 'norm.{param}'),
    ('pos_embed', 'pos_embed', CLASS_AND_SQUARE),
    ('register_tokens', 'reg_token'),
)


def dinov2_table(block: Table) -> Table:
    """Make the table of a network from that of its blocks."""
    return (
        ('mask_token', MASK_TOKEN, unit_dims('1 C', 'C')),
        *under('', ENDS, BODY),
        *under('blocks.{block}.', block, BODY + 'blocks.{block}.'),
        # Training under FSDP puts the blocks into chunks, within which they keep their numbers.
        *under('blocks.{_chunk}.{block}.', block, BODY + 'blocks.{block}.'),
    )


DINOV2_SWIGLU = Format(
    'DINOv2 with SwiGLU',
    ('mask_token', 'blocks.{path:[\\d.]+}.mlp.w12.'),
    dinov2_table((*SWIGLU, *DINOV2_BLOCK)),
)
DINOV2 = Format('DINOv2', ('mask_token', 'blocks.{path:[\\d.]+}.ls1.gamma'), dinov2_table(DINOV2_BLOCK))
