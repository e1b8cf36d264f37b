# RetinaNet over ConvNeXt V2-T, 12 epochs of 16 images.
_base_ = [
    '../_base_/backbones/convnextv2-t.py',
    './_base_/models/retinanet_fpn.py',
    './_base_/datasets/coco.py',
    './_base_/schedules/epochs_12.py',
    './_base_/runtime.py',
]

model = dict(backbone=dict(_base_.backbone, out_indices=(1, 2, 3)), neck=dict(in_channels=[192, 384, 768]))
