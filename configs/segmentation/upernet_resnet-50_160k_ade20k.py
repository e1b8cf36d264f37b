# UperNet over ResNet-50, with the schedule of ConvNeXt's, so that encoders can be compared.
_base_ = [
    '../_base_/backbones/resnet-50_spark.py',
    './_base_/models/upernet.py',
    './_base_/datasets/ade20k.py',
    './_base_/schedules/steps_160k.py',
    './_base_/runtime.py',
]

model = dict(
    backbone=_base_.backbone,
    decode_head=dict(in_channels=[256, 512, 1024, 2048]),
    auxiliary_head=dict(in_channels=1024),
)
