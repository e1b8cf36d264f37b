# A small UperNet on nuclei, over a small ConvNeXt V2.
_base_ = [
    '../_base_/backbones/convnextv2-a.py',
    './_base_/models/small.py',
    './_base_/datasets/dsb2018.py',
    '../_base_/schedules/steps_500.py',
    './_base_/runtime_small.py',
]

model = dict(
    data_preprocessor=dict(size=_base_.crop),
    backbone=_base_.backbone,
    decode_head=dict(type='UPerHead', in_channels=[40, 80, 160, 320], pool_scales=(1, 2, 3, 6)),
)
