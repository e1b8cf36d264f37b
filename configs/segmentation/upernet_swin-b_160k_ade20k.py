# UperNet over Swin-B, with the schedule of ConvNeXt's, so that encoders compare.
_base_ = [
    './_base_/models/upernet.py',
    './_base_/datasets/ade20k.py',
    './_base_/schedules/steps_160k.py',
    './_base_/runtime.py',
]

model = dict(
    backbone=dict(
        type='mae_toolkit.Swin',
        arch='swin_base_patch4_window7_224',
        img_size=512,
        window_size=7,
        out_indices=(0, 1, 2, 3),
        out_norms=True,
        final_norm=False,
        drop_path_rate=0.3,
        init_cfg=dict(
            type='Pretrained', checkpoint='work_dirs/simmim_swin-b_800e_imagenet/epoch_800.pth', prefix='encoder'
        ),
    ),
    decode_head=dict(in_channels=[128, 256, 512, 1024]),
    auxiliary_head=dict(in_channels=512),
)
