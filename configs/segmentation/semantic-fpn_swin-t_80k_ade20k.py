# Semantic FPN over Swin-T, 80 thousand steps of 16 images.
_base_ = [
    '../_base_/backbones/swin-t.py',
    './_base_/models/semantic_fpn.py',
    './_base_/datasets/ade20k.py',
    './_base_/schedules/steps_80k.py',
    './_base_/runtime.py',
]

model = dict(backbone=dict(_base_.backbone, img_size=512), neck=dict(in_channels=[96, 192, 384, 768]))
