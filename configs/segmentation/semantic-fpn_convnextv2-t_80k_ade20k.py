# Semantic FPN over ConvNeXt V2-T, 80 thousand steps of 16 images.
_base_ = [
    '../_base_/backbones/convnextv2-t.py',
    './_base_/models/semantic_fpn.py',
    './_base_/datasets/ade20k.py',
    './_base_/schedules/steps_80k.py',
    './_base_/runtime.py',
]

model = dict(backbone=_base_.backbone, neck=dict(in_channels=[96, 192, 384, 768]))
