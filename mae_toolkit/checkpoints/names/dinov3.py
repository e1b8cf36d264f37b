"""DINOv3 (facebookresearch/dinov3) and the models that keep its names, EUPE and LingBot-Vision; and Hugging Face's.

Their periods of the rotations are rounded to bfloat16, and are not read: timm, as Hugging Face, computes them.
"""

from mae_toolkit.checkpoints.names.regroup import Regroup
from mae_toolkit.checkpoints.names.table import BODY, MASK_TOKEN, Format, Table, same, under
from mae_toolkit.checkpoints.names.values import TOKEN, unit_dims

# The biases of keys are masked there, and are none in timm.
QKV_BIAS = 'blocks.{block}.attn.qkv.bias'
Q_AND_V_BIAS = ('blocks.{block}.attn.q_bias', '', 'blocks.{block}.attn.v_bias')

BLOCK: Table = (
    *same('norm{n:1|2}.{param}', 'attn.qkv.weight', 'attn.{bias:q_bias|v_bias}', 'attn.proj.{param}'),
    ('ls{n:1|2}.gamma', 'gamma_{n}'),
    ('attn.qkv.bias_mask', None),
)
MLP: Table = same('mlp.fc{n:1|2}.{param}')
SWIGLU: Table = (
    ('mlp.w1.{param}', 'mlp.fc1_g.{param}'),
    ('mlp.w2.{param}', 'mlp.fc1_x.{param}'),
    ('mlp.w3.{param}', 'mlp.fc2.{param}'),
)


def dinov3_format(name: str, sign: str, mlp: Table) -> Format:
    """Make the format of transformers with one kind of MLP."""
    table = (
        *under('', same('cls_token', 'patch_embed.proj.{param}', 'norm.{param}'), BODY),
        ('storage_tokens', f'{BODY}reg_token'),
        ('mask_token', MASK_TOKEN, unit_dims('1 C', 'C')),
        *under('blocks.{block}.', (*BLOCK, *mlp), BODY + 'blocks.{block}.'),
        ('rope_embed.periods', None),
        ('local_cls_norm.{param}', None),  # of the largest model, for local crops
        ('projectors.{rest:.+}', None),  # of distillation
    )
    return Format(name, ('storage_tokens', sign), table, regroups=(Regroup((QKV_BIAS,), Q_AND_V_BIAS),))


HUGGING_FACE_BLOCK: Table = (
    *same('norm{n:1|2}.{param}'),
    ('attention.qkv.weight', 'attn.qkv.weight'),
    ('attention.{bias:q|v}_proj.bias', 'attn.{bias}_bias'),
    ('attention.o_proj.{param}', 'attn.proj.{param}'),
    ('layer_scale{n:1|2}.lambda1', 'gamma_{n}'),
)
HUGGING_FACE_MLP: Table = (('mlp.up_proj.{param}', 'mlp.fc1.{param}'), ('mlp.down_proj.{param}', 'mlp.fc2.{param}'))
HUGGING_FACE_SWIGLU: Table = (
    ('mlp.gate_proj.{param}', 'mlp.fc1_g.{param}'),
    ('mlp.up_proj.{param}', 'mlp.fc1_x.{param}'),
    ('mlp.down_proj.{param}', 'mlp.fc2.{param}'),
)


def hugging_face_format(name: str, sign: str, mlp: Table) -> Format:
    """Make the format of Hugging Face's models with one kind of MLP; the names of their blocks begin in two ways."""
    attention = tuple(f'layer.{{block}}.attention.{part}' for part in ('q_proj', 'k_proj', 'v_proj', 'qkv'))
    block = under('layer.{block}.', (*HUGGING_FACE_BLOCK, *mlp), BODY + 'blocks.{block}.')
    table = (
        ('embeddings.cls_token', f'{BODY}cls_token'),
        ('embeddings.register_tokens', f'{BODY}reg_token'),
        ('embeddings.mask_token', MASK_TOKEN, TOKEN),
        ('embeddings.patch_embeddings.{param}', BODY + 'patch_embed.proj.{param}'),
        ('norm.{param}', BODY + 'norm.{param}'),
        *block,
        *under('model.', block),
    )
    *parts, whole = (f'{name}.weight' for name in attention)
    regroups = tuple(Regroup(tuple(start + part for part in parts), (start + whole,)) for start in ('', 'model.'))
    return Format(name, ('embeddings.register_tokens', sign), table, regroups=regroups)


DINOV3 = dinov3_format('DINOv3', 'blocks.{block}.mlp.fc1.', MLP)
DINOV3_SWIGLU = dinov3_format('DINOv3 with SwiGLU', 'blocks.{block}.mlp.w1.', SWIGLU)
HUGGING_FACE_DINOV3 = hugging_face_format(
    "Hugging Face's DINOv3", '{start:(?:model\\.)?}layer.{block}.mlp.up_proj.', HUGGING_FACE_MLP
)
HUGGING_FACE_DINOV3_SWIGLU = hugging_face_format(
    "Hugging Face's DINOv3 with SwiGLU", '{start:(?:model\\.)?}layer.{block}.mlp.gate_proj.', HUGGING_FACE_SWIGLU
)
DINOV3S = (DINOV3, DINOV3_SWIGLU, HUGGING_FACE_DINOV3_SWIGLU, HUGGING_FACE_DINOV3)
