# Semantic FPN over ResNet-50, 80 thousand steps of 16 images.
_base_ = [
    './_base_/models/semantic_fpn.py',
    './_base_/datasets/ade20k.py',
    './_base_/schedules/steps_80k.py',
    './_base_/runtime.py',
]

model = dict(
    backbone=dict(type='mae_toolkit.SparseCNN', arch='resnet50', out_indices=(1, 2, 3, 4)),
    neck=dict(in_channels=[256, 512, 1024, 2048]),
)
