# Mask R-CNN over ConvNeXt V2-T, 12 epochs of 16 images.
_base_ = [
    '../_base_/backbones/convnextv2-t.py',
    './_base_/models/mask_rcnn_fpn.py',
    './_base_/datasets/coco.py',
    './_base_/schedules/epochs_12.py',
    './_base_/runtime.py',
]

model = dict(backbone=_base_.backbone, neck=dict(in_channels=[96, 192, 384, 768]))
