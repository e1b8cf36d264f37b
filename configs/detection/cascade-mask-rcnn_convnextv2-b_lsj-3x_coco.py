# Cascade Mask R-CNN over ConvNeXt V2, like mask-rcnn_convnextv2-b_lsj-3x_coco.py.
_base_ = [
    '../_base_/backbones/convnextv2-b_fcmae.py',
    './_base_/models/cascade_mask_rcnn_fpn.py',
    './_base_/datasets/coco_lsj.py',
    './_base_/schedules/epochs_36.py',
    './_base_/runtime.py',
]

model = dict(
    backbone=_base_.backbone,
    neck=dict(in_channels=[128, 256, 512, 1024]),
    test_cfg=dict(rcnn=dict(nms=dict(type='soft_nms'))),
)
optim_wrapper = dict(paramwise_cfg=dict(grouping='group'))
