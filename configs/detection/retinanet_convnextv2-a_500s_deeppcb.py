# RetinaNet on defects of circuit boards, over a small ConvNeXt V2. Defects are 15 pixels wide, so anchors are small.
_base_ = [
    '../_base_/backbones/convnextv2-a.py',
    './_base_/models/retinanet_fpn.py',
    './_base_/datasets/deeppcb.py',
    '../_base_/schedules/steps_500.py',
    './_base_/runtime_steps.py',
]

model = dict(
    backbone=dict(_base_.backbone, out_indices=(1, 2, 3)),
    neck=dict(in_channels=[80, 160, 320], out_channels=64),
    bbox_head=dict(
        num_classes=6,
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        anchor_generator=dict(octave_base_scale=2),
    ),
)
