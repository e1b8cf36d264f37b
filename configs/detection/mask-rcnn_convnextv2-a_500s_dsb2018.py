# Mask R-CNN on nuclei, over a small ConvNeXt V2. An image has up to 362 of them, most of 10 to 30 pixels.
_base_ = [
    '../_base_/backbones/convnextv2-a.py',
    './_base_/models/mask_rcnn_small.py',
    './_base_/datasets/dsb2018.py',
    '../_base_/schedules/steps_500.py',
    './_base_/runtime_steps.py',
]

model = dict(
    backbone=_base_.backbone,
    neck=dict(in_channels=[40, 80, 160, 320]),
    rpn_head=dict(anchor_generator=dict(scales=[4])),
    roi_head=dict(bbox_head=dict(num_classes=1), mask_head=dict(num_classes=1)),
    test_cfg=dict(rpn=dict(nms_pre=1000, max_per_img=500), rcnn=dict(max_per_img=400)),
)
