# A light FCN (arXiv:1411.4038) on nuclei: a 1x1 convolution of all four maps of a small ConvNeXt V2, at stride 4.
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
    decode_head=dict(
        type='FCNHead',
        in_channels=[40, 80, 160, 320],
        input_transform='resize_concat',
        num_convs=1,
        kernel_size=1,
        concat_input=False,
    ),
)
