# A small UperNet on nuclei, over a small plain transformer, with a pyramid from the maps of four blocks. Patches of 8
# pixels, as nuclei are small.
_base_ = [
    './_base_/models/small.py',
    './_base_/datasets/dsb2018.py',
    '../_base_/schedules/steps_500.py',
    './_base_/runtime_small.py',
]

model = dict(
    data_preprocessor=dict(size=_base_.crop),
    backbone=dict(
        type='mae_toolkit.ViT',
        arch='vit_tiny_patch16_224',
        patch_size=8,
        depth=6,
        img_size=_base_.crop,
        out_indices=(1, 2, 3, 5),
    ),
    neck=dict(type='Feature2Pyramid', embed_dim=192, rescales=[2, 1, 0.5, 0.25], norm_cfg=dict(type='BN')),
    decode_head=dict(type='UPerHead', in_channels=[192, 192, 192, 192], pool_scales=(1, 2, 3, 6)),
)
