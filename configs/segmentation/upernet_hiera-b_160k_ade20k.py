# UperNet over Hiera-B, with the schedule of ConvNeXt's, so that encoders can be compared.
_base_ = [
    '../_base_/backbones/hiera-b_mae.py',
    './_base_/models/upernet.py',
    './_base_/datasets/ade20k.py',
    './_base_/schedules/steps_160k.py',
    './_base_/runtime.py',
]

model = dict(
    backbone=dict(_base_.backbone, img_size=512),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384),
)
