r"""Names of architectures in official code, and timm's. (weight|bias) is written WB.

Groups are numbered, so that a prefix before an expression may have none of its own.
"""

WB = r'(weight|bias)'
BLOCK = r'(\d+)\.'

# facebookresearch/ConvNeXt, ConvNeXt-V2: a block, of a stage or of a decoder.
BLOCK_OF_CONVNEXT = (
    (rf'{BLOCK}dwconv\.{WB}', r'\1.conv_dw.\2'),
    (rf'{BLOCK}norm\.{WB}', r'\1.norm.\2'),
    (rf'{BLOCK}pwconv([12])\.{WB}', r'\1.mlp.fc\2.\3'),
    (rf'{BLOCK}gamma', r'\1.gamma'),
    (rf'{BLOCK}grn\.gamma', r'\1.mlp.grn.weight'),
    (rf'{BLOCK}grn\.beta', r'\1.mlp.grn.bias'),
)

# The last two are the classifier's.
CONVNEXT = (
    (rf'downsample_layers\.0\.([01])\.{WB}', r'stem.\1.\2'),
    (rf'downsample_layers\.([123])\.([01])\.{WB}', r'stages.\1.downsample.\2.\3'),
    (rf'stages\.{BLOCK}{BLOCK}dwconv\.{WB}', r'stages.\1.blocks.\2.conv_dw.\3'),
    (rf'stages\.{BLOCK}{BLOCK}norm\.{WB}', r'stages.\1.blocks.\2.norm.\3'),
    (rf'stages\.{BLOCK}{BLOCK}pwconv([12])\.{WB}', r'stages.\1.blocks.\2.mlp.fc\3.\4'),
    (rf'stages\.{BLOCK}{BLOCK}gamma', r'stages.\1.blocks.\2.gamma'),
    (rf'stages\.{BLOCK}{BLOCK}grn\.gamma', r'stages.\1.blocks.\2.mlp.grn.weight'),
    (rf'stages\.{BLOCK}{BLOCK}grn\.beta', r'stages.\1.blocks.\2.mlp.grn.bias'),
    (rf'(norm|head)\.{WB}', None),
)


def _of_next_stage(match):
    """A patch merging ends a stage there, and begins the next one in timm."""
    return f'layers.{int(match[1]) + 1}.downsample.{match[2]}.{match[3]}'


# microsoft/Swin-Transformer, V1 and V2, without positions per image; its buffers are computed.
SWIN = (
    (rf'patch_embed\.(proj|norm)\.{WB}', r'patch_embed.\1.\2'),
    (rf'layers\.{BLOCK}downsample\.(norm|reduction)\.{WB}', _of_next_stage),
    (r'layers\.\d+\.blocks\.\d+\.(attn_mask|attn\.relative_(position_index|coords_table))', None),
    (
        rf'layers\.{BLOCK}blocks\.{BLOCK}((?:norm[12]|attn\.(?:qkv|proj|cpb_mlp\.[02])|mlp\.fc[12])\.(?:weight|bias))',
        r'layers.\1.blocks.\2.\3',
    ),
    (
        rf'layers\.{BLOCK}blocks\.{BLOCK}attn\.(relative_position_bias_table|logit_scale|q_bias|v_bias)',
        r'layers.\1.blocks.\2.attn.\3',
    ),
    (rf'norm\.{WB}', r'norm.\1'),
    (rf'head\.{WB}', None),
)

# The same in open-mmlab/mmpretrain, which counts its last norm with the stages.
SWIN_OF_MMPRETRAIN = (
    (rf'patch_embed\.projection\.{WB}', r'patch_embed.proj.\1'),
    (rf'patch_embed\.norm\.{WB}', r'patch_embed.norm.\1'),
    (rf'stages\.{BLOCK}downsample\.(norm|reduction)\.{WB}', _of_next_stage),
    (r'stages\.\d+\.blocks\.\d+\.attn\.w_msa\.relative_(position_index|coords_table)', None),
    (rf'stages\.{BLOCK}blocks\.{BLOCK}norm([12])\.{WB}', r'layers.\1.blocks.\2.norm\3.\4'),
    (rf'stages\.{BLOCK}blocks\.{BLOCK}attn\.w_msa\.(qkv|proj)\.{WB}', r'layers.\1.blocks.\2.attn.\3.\4'),
    (
        rf'stages\.{BLOCK}blocks\.{BLOCK}attn\.w_msa\.relative_position_bias_table',
        r'layers.\1.blocks.\2.attn.relative_position_bias_table',
    ),
    (rf'stages\.{BLOCK}blocks\.{BLOCK}ffn\.layers\.0\.0\.{WB}', r'layers.\1.blocks.\2.mlp.fc1.\3'),
    (rf'stages\.{BLOCK}blocks\.{BLOCK}ffn\.layers\.1\.{WB}', r'layers.\1.blocks.\2.mlp.fc2.\3'),
    (rf'norm3\.{WB}', r'norm.\1'),
)

# Blocks of a plain transformer, by timm's own names.
BLOCKS = (
    (rf'{BLOCK}norm([12])\.{WB}', r'\1.norm\2.\3'),
    (rf'{BLOCK}attn\.(qkv|proj)\.{WB}', r'\1.attn.\2.\3'),
    (rf'{BLOCK}mlp\.fc([12])\.{WB}', r'\1.mlp.fc\2.\3'),
)

# BEiT's have more: biases of queries and values, a scale of each layer.
BLOCKS_OF_BEIT = (
    *BLOCKS,
    (rf'{BLOCK}gamma_([12])', r'\1.gamma_\2'),
    (rf'{BLOCK}attn\.(q_bias|v_bias)', r'\1.attn.\2'),
)

# mmpretrain's.
BLOCKS_OF_MMPRETRAIN = (
    (rf'{BLOCK}ln([12])\.{WB}', r'\1.norm\2.\3'),
    (rf'{BLOCK}attn\.(qkv|proj)\.{WB}', r'\1.attn.\2.\3'),
    (rf'{BLOCK}ffn\.layers\.0\.0\.{WB}', r'\1.mlp.fc1.\2'),
    (rf'{BLOCK}ffn\.layers\.1\.{WB}', r'\1.mlp.fc2.\2'),
)
