# Mask R-CNN over Swin-B, with the schedule of ConvNeXt V2's transfer, so that encoders can be
# compared: large-scale jittering, 36 epochs of 32 images.
_base_ = [
    '../_base_/backbones/swin-b_simmim.py',
    './_base_/models/mask_rcnn_fpn.py',
    './_base_/datasets/coco_lsj.py',
    './_base_/schedules/epochs_36.py',
    './_base_/runtime.py',
]

model = dict(backbone=dict(_base_.backbone, img_size=1024), neck=dict(in_channels=[128, 256, 512, 1024]))
