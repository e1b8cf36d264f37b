# Mask R-CNN over Swin-T, 12 epochs of 16 images (arXiv:2103.14030, section 4.2). From a supervised Swin-T: box AP 42.7,
# mask AP 39.3 (MMDetection).
_base_ = [
    '../_base_/backbones/swin-t.py',
    './_base_/models/mask_rcnn_fpn.py',
    './_base_/datasets/coco.py',
    './_base_/schedules/epochs_12.py',
    './_base_/runtime.py',
]

model = dict(backbone=dict(_base_.backbone, img_size=1024), neck=dict(in_channels=[96, 192, 384, 768]))
