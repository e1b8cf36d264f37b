"""Models of Hugging Face's transformers, as ``save_pretrained`` writes them: ViTMAE, ViT, DINOv2, Swin and ConvNeXt.

Names of a model under a head begin with the model (``vit.``); they are written without it, which ``from_pretrained``
understands, but where decoder and head are written, too. Release 5 has other names in memory than in files; they are
read as well.
"""

from mae_toolkit.checkpoints.names.regroup import Regroup
from mae_toolkit.checkpoints.names.table import BODY, HEAD, MASK_TOKEN, Format, Table, same, under
from mae_toolkit.checkpoints.names.transformer import MAE_PREDICTION
from mae_toolkit.checkpoints.names.values import CLASS_AND_SQUARE, POINTWISE, TOKEN, unit_dims

MODEL = '{_model:\\w+\\.}'  # the model under a head
GRN = unit_dims('1 1 1 C', 'C')


def join_qkv(params: str = '{param}') -> tuple[Regroup, ...]:
    """Join queries, keys and values: of the names in memory of release 5, and of those in files, which are written."""
    start = '{start:.*attention\\.(?:attention\\.|self\\.)?}'
    return tuple(
        Regroup(tuple(f'{start}{part}.{params}' for part in parts), ('{start}qkv.' + params,))
        for parts in (('q_proj', 'k_proj', 'v_proj'), ('query', 'key', 'value'))
    )


QKV = join_qkv()
QKV_WEIGHTS = join_qkv('weight')  # of attention whose keys have no bias

ATTENTION: Table = (
    ('attention.attention.qkv.{param}', 'attn.qkv.{param}'),
    ('attention.output.dense.{param}', 'attn.proj.{param}'),
    ('attention.qkv.{param}', 'attn.qkv.{param}'),
    ('attention.o_proj.{param}', 'attn.proj.{param}'),
)
NORMS: Table = (('layernorm_before.{param}', 'norm1.{param}'), ('layernorm_after.{param}', 'norm2.{param}'))
MLP: Table = (
    ('intermediate.dense.{param}', 'mlp.fc1.{param}'),
    ('output.dense.{param}', 'mlp.fc2.{param}'),
    *same('mlp.fc{n:1|2}.{param}'),
)
LAYER = (*NORMS, *ATTENTION, *MLP)
DINOV2_LAYER: Table = (
    *same('norm{n:1|2}.{param}', 'mlp.fc{n:1|2}.{param}'),
    *ATTENTION,
    ('layer_scale{n:1|2}.lambda1', 'ls{n}.gamma'),
)
SWIGLU: Table = (
    ('mlp.weights_in.{param}', 'mlp.fc1.{param}'),  # gate and value in one
    ('mlp.weights_out.{param}', 'mlp.fc2.{param}'),
)
EMBEDDINGS: Table = (
    ('embeddings.cls_token', 'cls_token'),
    ('embeddings.position_embeddings', 'pos_embed', CLASS_AND_SQUARE),
    ('embeddings.register_tokens', 'reg_token'),
    ('embeddings.patch_embeddings.projection.{param}', 'patch_embed.proj.{param}'),
    ('layernorm.{param}', 'norm.{param}'),
)
VIT: Table = (
    *under('', EMBEDDINGS, BODY),
    *under('encoder.layer.{block}.', LAYER, BODY + 'blocks.{block}.'),
    *under('layers.{block}.', LAYER, BODY + 'blocks.{block}.'),
    ('embeddings.mask_token', MASK_TOKEN, TOKEN),
    ('pooler.dense.{param}', None),
)
DINOV2_EMBEDDINGS: Table = (
    *under('', EMBEDDINGS, BODY),
    ('embeddings.mask_token', MASK_TOKEN, unit_dims('1 C', 'C')),
)
DINOV2_BLOCKS = under('encoder.layer.{block}.', DINOV2_LAYER, BODY + 'blocks.{block}.')
SWIGLU_BLOCKS = under('encoder.layer.{block}.', SWIGLU, BODY + 'blocks.{block}.')
# A classifier, and the linear prediction of masked images.
HEADS: Table = (('classifier.{param}', None), ('decoder.0.{param}', HEAD + '{param}'))

DECODER: Table = (
    ('decoder.mask_token', 'decoder.mask_token', TOKEN),
    ('decoder.decoder_pos_embed', None),
    ('decoder.decoder_embed.{param}', 'decoder.embed.0.{param}'),
    ('decoder.decoder_norm.{param}', 'decoder.norm.{param}'),
    *under('decoder.decoder_layers.{block}.', LAYER, 'decoder.blocks.{block}.'),
    *under('decoder.decoder_encoder.layer.{block}.', LAYER, 'decoder.blocks.{block}.'),  # as some releases wrote them
    *under('decoder.', MAE_PREDICTION),
)

SWIN_ATTENTION: Table = (
    ('self.qkv.{param}', 'attn.qkv.{param}'),
    ('output.dense.{param}', 'attn.proj.{param}'),
    ('qkv.{param}', 'attn.qkv.{param}'),
    ('o_proj.{param}', 'attn.proj.{param}'),
)
SWIN_V1_ATTENTION: Table = (
    ('self.relative_position_bias_table', 'attn.relative_position_bias_table'),
    ('relative_position_bias.relative_position_bias_table', 'attn.relative_position_bias_table'),
    ('{place:self|relative_position_bias}.relative_position_index', None),
)
SWIN_V2_ATTENTION: Table = (
    ('self.query.bias', 'attn.q_bias'),
    ('self.value.bias', 'attn.v_bias'),
    ('self.logit_scale', 'attn.logit_scale'),
    ('self.continuous_position_bias_mlp.{layer:[02]}.{param}', 'attn.cpb_mlp.{layer}.{param}'),
    ('self.{buffer:relative_position_index|relative_coords_table}', None),
)
SWIN_BLOCK, OUR_SWIN_BLOCK = 'encoder.layers.{stage}.blocks.{block}.', BODY + 'layers.{stage}.blocks.{block}.'
SWIN: Table = (
    ('embeddings.patch_embeddings.projection.{param}', BODY + 'patch_embed.proj.{param}'),
    ('embeddings.norm.{param}', BODY + 'patch_embed.norm.{param}'),
    ('embeddings.position_embeddings', 'encoder.positions.pos_embed'),
    ('embeddings.mask_token', MASK_TOKEN, TOKEN),
    *under(SWIN_BLOCK, (*NORMS, *MLP, *under('attention.', SWIN_ATTENTION)), OUR_SWIN_BLOCK),
    (
        'encoder.layers.{stage}.downsample.{layer:norm|reduction}.{param}',
        BODY + 'layers.{stage+1}.downsample.{layer}.{param}',
    ),
    ('layernorm.{param}', BODY + 'norm.{param}'),
)
SWIN_V1: Table = (*SWIN, *under(SWIN_BLOCK, under('attention.', SWIN_V1_ATTENTION), OUR_SWIN_BLOCK))
SWIN_V2: Table = (*SWIN, *under(SWIN_BLOCK, under('attention.', SWIN_V2_ATTENTION), OUR_SWIN_BLOCK))

CONVNEXT_LAYER: Table = (
    ('dwconv.{param}', 'conv_dw.{param}'),
    ('layernorm.{param}', 'norm.{param}'),
    ('pwconv{n:1|2}.weight', 'mlp.fc{n}.weight', POINTWISE),
    ('pwconv{n:1|2}.bias', 'mlp.fc{n}.bias'),
    ('grn.{param}', 'mlp.grn.{param}', GRN),
    ('layer_scale_parameter', 'gamma'),
)
CONVNEXT: Table = (
    ('embeddings.patch_embeddings.{param}', BODY + 'stem.0.{param}'),
    ('embeddings.layernorm.{param}', BODY + 'stem.1.{param}'),
    (
        'encoder.stages.{stage}.downsampling_layer.{layer:[01]}.{param}',
        BODY + 'stages.{stage}.downsample.{layer}.{param}',
    ),
    *under('encoder.stages.{stage}.layers.{block}.', CONVNEXT_LAYER, BODY + 'stages.{stage}.blocks.{block}.'),
    ('layernorm.{param}', None),  # behind the pooling
)


def with_model(table: Table) -> Table:
    """Add the names of a model under a head, which are read alone, and those of such heads."""
    return (*table, *HEADS, *under(MODEL, table))


EMBEDDED = '{model:(?:\\w+\\.)?}embeddings.'
VITMAE = Format(
    "Hugging Face's ViTMAE",
    ('vit.embeddings.', 'decoder.decoder_embed.'),
    (*under('vit.', VIT), *DECODER),
    whole=True,
    regroups=QKV,
)
HF_DINOV2_SWIGLU = Format(
    "Hugging Face's DINOv2 with SwiGLU",
    (EMBEDDED + 'cls_token', '{model:(?:\\w+\\.)?}encoder.layer.0.mlp.weights_in.'),
    with_model((*DINOV2_EMBEDDINGS, *SWIGLU_BLOCKS, *DINOV2_BLOCKS)),
    regroups=QKV,
)
HF_DINOV2 = Format(
    "Hugging Face's DINOv2",
    (EMBEDDED + 'cls_token', '{model:(?:\\w+\\.)?}encoder.layer.0.layer_scale1.'),
    with_model((*DINOV2_EMBEDDINGS, *DINOV2_BLOCKS)),
    regroups=QKV,
)
HF_VIT = Format(
    "Hugging Face's ViT",
    (EMBEDDED + 'cls_token', '{model:(?:\\w+\\.)?}{layer:(?:encoder\\.)?layers?}.0.layernorm_before.'),
    with_model(VIT),
    whole=True,
    regroups=QKV,
)
HF_SWIN_V2 = Format(
    "Hugging Face's Swin V2",
    ('{model:(?:\\w+\\.)?}encoder.layers.0.blocks.0.attention.self.logit_scale',),
    with_model(SWIN_V2),
    whole=True,
    regroups=QKV_WEIGHTS,
)
HF_SWIN = Format(
    "Hugging Face's Swin",
    (EMBEDDED + 'norm.', '{model:(?:\\w+\\.)?}encoder.layers.0.blocks.0.attention.'),
    with_model(SWIN_V1),
    whole=True,
    regroups=QKV,
)
HF_CONVNEXT = Format(
    "Hugging Face's ConvNeXt",
    (EMBEDDED + 'patch_embeddings.weight', '{model:(?:\\w+\\.)?}encoder.stages.0.layers.0.dwconv.'),
    with_model(CONVNEXT),
)
HUGGINGFACE = (VITMAE, HF_DINOV2_SWIGLU, HF_DINOV2, HF_VIT, HF_SWIN_V2, HF_SWIN, HF_CONVNEXT)
