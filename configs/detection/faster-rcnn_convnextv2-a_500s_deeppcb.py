# Faster R-CNN on defects of circuit boards, over a small ConvNeXt V2. Defects are 15 pixels wide, so anchors are small.
_base_ = [
    '../_base_/backbones/convnextv2-a.py',
    './_base_/models/mask_rcnn_small.py',
    './_base_/datasets/deeppcb.py',
    '../_base_/schedules/steps_500.py',
    './_base_/runtime_steps.py',
]

model = dict(
    type='FasterRCNN',
    data_preprocessor=dict(pad_mask=False),
    backbone=_base_.backbone,
    neck=dict(in_channels=[40, 80, 160, 320]),
    rpn_head=dict(anchor_generator=dict(scales=[4])),
    roi_head=dict(bbox_head=dict(num_classes=6), mask_roi_extractor=None, mask_head=None),
)
