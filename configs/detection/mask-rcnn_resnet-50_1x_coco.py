# SparK's transfer of a ResNet-50: Mask R-CNN, 12 epochs of 16 images, the short side of 480 to 896 pixels, synchronized
# batch norms. The published run is with Detectron2.
_base_ = [
    '../_base_/backbones/resnet-50_spark.py',
    './_base_/models/mask_rcnn_fpn.py',
    './_base_/datasets/coco_multiscale.py',
    './_base_/schedules/epochs_12.py',
    './_base_/runtime.py',
]

norm = dict(type='BN')
model = dict(
    backbone=_base_.backbone,
    neck=dict(in_channels=[256, 512, 1024, 2048], norm_cfg=norm),
    roi_head=dict(mask_head=dict(norm_cfg=norm)),
)
sync_bn = 'torch'
pipeline = _base_.train_dataloader.dataset.pipeline
resize = dict(type='RandomChoiceResize', scales=[(size, 1333) for size in range(480, 897, 32)], keep_ratio=True)
train_dataloader = dict(dataset=dict(pipeline=[*pipeline[:2], resize, *pipeline[3:]]))
optim_wrapper = dict(
    constructor='mae_toolkit.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(decay_rate=0.6),
    optimizer=dict(lr=2.5e-4),
)
