"""The methods whose checkpoints are known. A new one is one entry of METHODS, which are tried in this order.

A table names every key that the method saves. What is left (None) belongs to a decoder that differs from ours or to
pretraining alone, or is computed anyway.
"""

from mae_toolkit.checkpoints.names.architectures import (
    BLOCK_OF_CONVNEXT,
    BLOCKS,
    BLOCKS_OF_BEIT,
    BLOCKS_OF_MMPRETRAIN,
    CONVNEXT,
    SWIN,
    SWIN_OF_MMPRETRAIN,
    WB,
)
from mae_toolkit.checkpoints.names.method import MASK_TOKEN, Method, under
from mae_toolkit.checkpoints.names.tensors import fcmae, mae_prediction, merging_of_mmpretrain

BODY = 'encoder.body.'
# Parameters and statistics of a batch norm, or of a layer norm.
NORM = r'(weight|bias|running_mean|running_var|num_batches_tracked)'
HEAD = r'objectives.{objective}.head.proj.\1'
# The transformer decoder of MAE and of what came after it; Hiera's positions are learned.
POSITIONS = (r'decoder_pos_embed', None)
LEARNED = (r'decoder_pos_embed', 'decoder.positions.pos_embed')
MAE_DECODER = (
    (r'mask_token', 'decoder.mask_token'),
    (rf'decoder_embed\.{WB}', r'decoder.embed.0.\1'),
    *under(r'decoder_blocks\.', BLOCKS, 'decoder.blocks.'),
    (rf'decoder_norm\.{WB}', r'decoder.norm.\1'),
    (rf'decoder_pred\.{WB}', HEAD),
)

SPARK = Method(
    'SparK',
    (r'sparse_encoder\.sp_cnn\.',),
    (
        *under(r'sparse_encoder\.sp_cnn\.', CONVNEXT, BODY),
        # its ResNets have timm's names
        (r'sparse_encoder\.sp_cnn\.((conv1|bn1|layer\d)\..+)', BODY + r'\1'),
        (r'imn_[ms]|norm_black', None),
        (r'mask_tokens\.(\d)', r'decoder.mask_tokens.\1'),
        (rf'dense_decoder\.dec\.(\d)\.up_sample\.{WB}', r'decoder.dec.\1.up_sample.\2'),
        (rf'dense_decoder\.dec\.(\d)\.conv\.(\d)\.{NORM}', r'decoder.dec.\1.conv.\2.\3'),
        (rf'densify_norms\.(\d)\.{NORM}', r'decoder.densify_norms.\1.\2'),
        (rf'densify_projs\.(\d)\.{WB}', r'decoder.densify_projs.\1.\2'),
        (rf'dense_decoder\.proj\.{WB}', HEAD),
    ),
    whole=True,
)
FCMAE = Method(
    'FCMAE of ConvNeXt V2',
    (r'encoder\.(downsample_layers|stages)\.',),
    (
        *under(r'encoder\.', CONVNEXT[:-1], BODY),
        (r'mask_token', 'decoder.mask_token'),
        (rf'proj\.{WB}', r'decoder.embed.0.\1'),
        *under(r'decoder\.', BLOCK_OF_CONVNEXT, 'decoder.blocks.'),
        (rf'pred\.{WB}', HEAD),
    ),
    fcmae,
    whole=True,
)
CONVNEXTS = Method('the official ConvNeXt', (r'downsample_layers\.',), under('', CONVNEXT, BODY))
GREENMIM = Method(
    'GreenMIM',
    (r'encoder\.layers\.', r'decoder_(embed|blocks|pred)\.'),
    (*under(r'encoder\.', SWIN[:-1], BODY), POSITIONS, *MAE_DECODER),
    mae_prediction,
    whole=True,
)
SIMMIM_SWIN = Method(
    'SimMIM of a Swin',
    (r'encoder\.layers\.',),
    (
        *under(r'encoder\.', SWIN[:-1], BODY),
        (r'encoder\.mask_token', MASK_TOKEN),
        (rf'decoder\.0\.{WB}', HEAD),
    ),
    whole=True,
)
SIMMIM_VIT = Method(
    'SimMIM of a ViT',
    (r'encoder\.blocks\.',),
    (
        (r'encoder\.mask_token', MASK_TOKEN),
        (r'encoder\.cls_token', BODY + 'cls_token'),
        (rf'encoder\.patch_embed\.proj\.{WB}', BODY + r'patch_embed.proj.\1'),
        (r'encoder\.rel_pos_bias\.relative_position_bias_table', BODY + 'rel_pos_bias.relative_position_bias_table'),
        (r'encoder\.rel_pos_bias\.relative_position_index', None),
        *under(r'encoder\.blocks\.', BLOCKS_OF_BEIT, BODY + 'blocks.'),
        (rf'encoder\.norm\.{WB}', BODY + r'norm.\1'),
        (rf'decoder\.0\.{WB}', HEAD),
    ),
    whole=True,
)
SWINS = Method('the official Swin', (r'layers\.0\.downsample\.',), under('', SWIN, BODY))
HIERA = Method(
    'Hiera MAE',
    (r'multi_scale_fusion_heads\.',),
    (
        (r'pos_embed(_win)?', BODY + r'pos_embed\1'),
        (r'pos_embed_abs', BODY + 'pos_embed'),
        (rf'patch_embed\.proj\.{WB}', BODY + r'patch_embed.proj.\1'),
        *under(r'blocks\.', BLOCKS, BODY + 'blocks.'),
        (rf'blocks\.(\d+)\.proj\.{WB}', BODY + r'blocks.\1.proj.\2'),
        (rf'encoder_norm\.{WB}', r'decoder.fusion.norm.\1'),
        (rf'multi_scale_fusion_heads\.(\d)\.{WB}', r'decoder.fusion.heads.\1.\2'),
        LEARNED,
        *MAE_DECODER,
    ),
    whole=True,
)
CROSSMAE = Method(
    'CrossMAE',
    (r'dec_norms\.\d+\.', r'decoder_blocks\.\d+\.cross_attn\.'),
    (
        (r'(cls_token|pos_embed)', BODY + r'\1'),
        (rf'patch_embed\.proj\.{WB}', BODY + r'patch_embed.proj.\1'),
        *under(r'blocks\.', BLOCKS, BODY + 'blocks.'),
        (r'wfm\.linear\.weight', 'decoder.level_weights'),
        (rf'dec_norms\.(\d+)\.{WB}', r'decoder.blocks.\1.norm_context.\2'),
        (rf'decoder_blocks\.(\d+)\.cross_attn\.(q|kv|proj)\.{WB}', r'decoder.blocks.\1.cross_attn.\2.\3'),
        POSITIONS,
        *MAE_DECODER,
    ),
    mae_prediction,
    whole=True,
)
MAE = Method(
    'MAE',
    (r'decoder_(pred|embed|blocks)\.',),
    (
        (r'(cls_token|pos_embed)', BODY + r'\1'),
        (rf'(patch_embed\.proj|norm)\.{WB}', BODY + r'\1.\2'),
        *under(r'blocks\.', BLOCKS, BODY + 'blocks.'),
        POSITIONS,
        *MAE_DECODER,
    ),
    mae_prediction,
    whole=True,
)
VIT_OF_MMPRETRAIN = (
    (r'backbone\.(cls_token|pos_embed)', BODY + r'\1'),
    (rf'backbone\.patch_embed\.projection\.{WB}', BODY + r'patch_embed.proj.\1'),
    *under(r'backbone\.layers\.', BLOCKS_OF_MMPRETRAIN, BODY + 'blocks.'),
    (rf'backbone\.ln1\.{WB}', BODY + r'norm.\1'),
)
MMPRETRAIN_MAE = Method(
    "mmpretrain's MAE",
    (r'neck\.decoder_(pred|embed|blocks)\.',),
    (
        *VIT_OF_MMPRETRAIN,
        (r'neck\.mask_token', 'decoder.mask_token'),
        (r'neck\.decoder_pos_embed', None),
        (rf'neck\.decoder_embed\.{WB}', r'decoder.embed.0.\1'),
        *under(r'neck\.decoder_blocks\.', BLOCKS_OF_MMPRETRAIN, 'decoder.blocks.'),
        (rf'neck\.ln1\.{WB}', r'decoder.norm.\1'),
        (rf'neck\.decoder_pred\.{WB}', HEAD),
    ),
    mae_prediction,
    whole=True,
)
MMPRETRAIN_SIMMIM = Method(
    "mmpretrain's SimMIM of a Swin",
    (r'backbone\.stages\.\d+\.blocks\.',),
    (
        *under(r'backbone\.', SWIN_OF_MMPRETRAIN, BODY),
        (r'backbone\.mask_token', MASK_TOKEN),
        (rf'neck\.decoder\.0\.{WB}', HEAD),
    ),
    merging_of_mmpretrain,
    whole=True,
)
MMPRETRAIN_MASKFEAT = Method(
    "mmpretrain's MaskFeat",
    (r'backbone\.layers\.',),
    (
        *VIT_OF_MMPRETRAIN,
        (r'backbone\.mask_token', MASK_TOKEN),
        (rf'neck\.fc\.{WB}', None),
        (r'target_generator\.(weight_[xy]|gaussian_kernel)', None),
    ),
)
METHODS = (SPARK, FCMAE, CONVNEXTS, GREENMIM, SIMMIM_SWIN, SIMMIM_VIT, SWINS, HIERA, CROSSMAE, MAE)
METHODS += (MMPRETRAIN_MAE, MMPRETRAIN_SIMMIM, MMPRETRAIN_MASKFEAT)
