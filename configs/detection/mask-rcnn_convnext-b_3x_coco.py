# SparK's transfer of a ConvNeXt (arXiv:2301.03580, section 4.2): Mask R-CNN, 36 epochs of 16 images at many scales, in
# float32. Published: mask AP 45.1.
_base_ = [
    '../_base_/backbones/convnext-b_spark.py',
    './_base_/models/mask_rcnn_fpn.py',
    './_base_/datasets/coco_multiscale.py',
    './_base_/schedules/epochs_36.py',
    './_base_/runtime.py',
]

model = dict(
    backbone=dict(_base_.backbone, drop_path_rate=0.5),
    neck=dict(in_channels=[128, 256, 512, 1024]),
)
auto_scale_lr = dict(base_batch_size=16)
optim_wrapper = dict(
    type='OptimWrapper', paramwise_cfg=dict(decay_rate=0.65, grouping='group'), optimizer=dict(lr=2e-4)
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=1000),
    dict(type='MultiStepLR', by_epoch=True, begin=0, milestones=[27, 33], gamma=0.2),
]
