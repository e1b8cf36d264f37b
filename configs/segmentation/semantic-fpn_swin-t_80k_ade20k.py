# Semantic FPN over Swin-T, 80 thousand steps of 16 images.
_base_ = [
    './_base_/models/semantic_fpn.py',
    './_base_/datasets/ade20k.py',
    './_base_/schedules/steps_80k.py',
    './_base_/runtime.py',
]

model = dict(
    backbone=dict(
        type='mae_toolkit.Swin',
        arch='swin_tiny_patch4_window7_224',
        img_size=512,
        window_size=7,
        out_indices=(0, 1, 2, 3),
        out_norms=True,
        final_norm=False,
        drop_path_rate=0.2,
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
