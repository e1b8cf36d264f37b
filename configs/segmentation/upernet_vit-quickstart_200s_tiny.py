# A small UperNet on the nuclei that come with the package, over the encoder that "make pretrain" pretrains, with a
# pyramid from the maps of its four blocks; from scratch with --cfg-options model.backbone.init_cfg=None.
_base_ = [
    '../_base_/backbones/vit-quickstart.py',
    './_base_/models/small.py',
    './_base_/datasets/tiny.py',
    '../_base_/schedules/steps_200.py',
    './_base_/runtime_small.py',
]

model = dict(
    data_preprocessor=dict(size=_base_.crop),
    backbone=_base_.backbone,
    neck=dict(type='Feature2Pyramid', embed_dim=128, rescales=[2, 1, 0.5, 0.25], norm_cfg=dict(type='BN')),
    decode_head=dict(type='UPerHead', in_channels=[128, 128, 128, 128], pool_scales=(1, 2, 3, 6)),
)
default_hooks = dict(checkpoint=dict(interval=100))
