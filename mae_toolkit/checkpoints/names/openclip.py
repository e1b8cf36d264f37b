"""The visual tower of OpenCLIP (mlfoundations/open_clip) and CLIP: a ViT with a norm before its blocks."""

from mae_toolkit.checkpoints.names.table import BODY, Format, Table, same, under
from mae_toolkit.checkpoints.names.values import unit_dims

BLOCK: Table = (
    ('ln_{n:1|2}.{param}', 'norm{n}.{param}'),
    ('attn.in_proj_{param}', 'attn.qkv.{param}'),
    ('attn.out_proj.{param}', 'attn.proj.{param}'),
    ('mlp.c_fc.{param}', 'mlp.fc1.{param}'),
    ('mlp.c_proj.{param}', 'mlp.fc2.{param}'),
    *same('ls_{n:1|2}.gamma'),
)
TOWER: Table = (
    ('class_embedding', 'cls_token', unit_dims('C', '1 1 C')),
    ('positional_embedding', 'pos_embed', unit_dims('L C', '1 L C')),
    ('conv1.weight', 'patch_embed.proj.weight'),
    ('ln_pre.{param}', 'norm_pre.{param}'),
    *under('transformer.resblocks.{block}.', BLOCK, 'blocks.{block}.'),
    ('ln_post.{param}', 'norm.{param}'),
)
# The projection to the space of texts, and the network of texts beside the tower.
PROJECTION: Table = (('proj', None),)
TEXTS: Table = (
    ('{text:positional_embedding|text_projection|logit_scale|logit_bias}', None),
    ('{text:text|transformer|token_embedding|ln_final}.{rest:.+}', None),
    ('{text:input_resolution|context_length|vocab_size}', None),
)

OPENCLIP = Format(
    'OpenCLIP',
    ('visual.conv1.', 'visual.transformer.resblocks.'),
    (*under('visual.', (*under('', TOWER, BODY), *PROJECTION)), *TEXTS),
)
OPENCLIP_TOWER = Format(
    'OpenCLIP with the tower alone',
    ('conv1.', 'transformer.resblocks.', 'class_embedding'),
    (*under('', TOWER, BODY), *PROJECTION),
)
