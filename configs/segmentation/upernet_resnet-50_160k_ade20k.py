# UperNet over ResNet-50, with the schedule of ConvNeXt's, so that encoders compare.
_base_ = [
    './_base_/models/upernet.py',
    './_base_/datasets/ade20k.py',
    './_base_/schedules/steps_160k.py',
    './_base_/runtime.py',
]

model = dict(
    backbone=dict(
        type='mae_toolkit.SparseCNN',
        arch='resnet50',
        out_indices=(1, 2, 3, 4),
        init_cfg=dict(
            type='Pretrained', checkpoint='work_dirs/spark_resnet-50_1600e_imagenet/epoch_1600.pth', prefix='encoder'
        ),
    ),
    decode_head=dict(in_channels=[256, 512, 1024, 2048]),
    auxiliary_head=dict(in_channels=1024),
)
