"""EVA-02 (baaivision/EVA): transformers with rotary positions, SwiGLU and norms within them, pretrained by EVA-CLIP.

Queries, keys and values are three layers in the larger ones, and biases of queries and values stand by themselves.
"""

from collections.abc import Sequence

from mae_toolkit.checkpoints.names.table import BODY, MASK_TOKEN, Format, Table, same, under
from mae_toolkit.checkpoints.names.values import TOKEN

ENDS: Table = (
    *under('', same('{table:cls_token|pos_embed}', 'patch_embed.proj.{param}', 'norm.{param}'), BODY),
    ('mask_token', MASK_TOKEN, TOKEN),
    ('{head:lm_head|head|fc_norm}.{param}', None),
    ('rope.freqs_{wave:cos|sin}', None),  # computed
)
BLOCK: Table = (
    *same('norm{n:1|2}.{param}', 'attn.proj.{param}'),
    ('attn.inner_attn_ln.{param}', 'attn.norm.{param}'),
    ('attn.rope.freqs_{wave:cos|sin}', None),
    ('mlp.ffn_ln.{param}', 'mlp.norm.{param}'),
    ('mlp.w1.{param}', 'mlp.fc1_g.{param}'),
    ('mlp.w2.{param}', 'mlp.fc1_x.{param}'),
    ('mlp.w12.{param}', 'mlp.fc1.{param}'),
    ('mlp.w3.{param}', 'mlp.fc2.{param}'),
)
ONE_LAYER: Table = same('attn.qkv.weight', 'attn.{bias:q_bias|v_bias}')
THREE_LAYERS: Table = (
    *same('attn.{layer:q_proj|k_proj|v_proj}.weight'),
    ('attn.{layer:q|v}_bias', 'attn.{layer}_proj.bias'),
)


def eva02_format(name: str, signs: Sequence[str], attention: Table) -> Format:
    """Make the format of transformers with one kind of attention."""
    block = under('blocks.{block}.', (*attention, *BLOCK), BODY + 'blocks.{block}.')
    return Format(name, tuple(signs), (*ENDS, *block))


EVA02 = eva02_format('EVA-02', ('blocks.{block}.attn.q_proj.', 'blocks.{block}.mlp.w'), THREE_LAYERS)
FUSED_SIGNS = ('blocks.{block}.attn.q_bias', 'blocks.{block}.mlp.w')
EVA02_FUSED = eva02_format('EVA-02 with fused layers', FUSED_SIGNS, ONE_LAYER)
EVA02S = (EVA02, EVA02_FUSED)
