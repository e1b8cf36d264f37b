# Faster R-CNN on blood cells, over a small ConvNeXt V2.
_base_ = [
    '../_base_/backbones/convnextv2-a.py',
    './_base_/models/mask_rcnn_small.py',
    './_base_/datasets/bccd.py',
    '../_base_/schedules/steps_500.py',
    './_base_/runtime_steps.py',
]

model = dict(
    type='FasterRCNN',
    data_preprocessor=dict(pad_mask=False),
    backbone=_base_.backbone,
    neck=dict(in_channels=[40, 80, 160, 320]),
    roi_head=dict(bbox_head=dict(num_classes=3), mask_roi_extractor=None, mask_head=None),
)
