# UperNet over Hiera-B, with the schedule of ConvNeXt's, so that encoders compare.
_base_ = [
    './_base_/models/upernet.py',
    './_base_/datasets/ade20k.py',
    './_base_/schedules/steps_160k.py',
    './_base_/runtime.py',
]

model = dict(
    backbone=dict(
        type='mae_toolkit.Hiera',
        arch='hiera_base_224',
        img_size=512,
        out_indices=(0, 1, 2, 3),
        out_norms=True,
        drop_path_rate=0.2,
        init_cfg=dict(
            type='Pretrained', checkpoint='work_dirs/hiera_hiera-b_1600e_imagenet/epoch_1600.pth', prefix='encoder'
        ),
    ),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384),
)
