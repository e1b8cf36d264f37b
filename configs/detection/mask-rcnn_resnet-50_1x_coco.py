# SparK's transfer of a ResNet-50: Mask R-CNN, 12 epochs of 16 images, the short side of 480 to 896 pixels, synchronized
# batch norms. The published run is with Detectron2.
_base_ = [
    './_base_/models/mask_rcnn_fpn.py',
    './_base_/datasets/coco_multiscale.py',
    './_base_/schedules/epochs_12.py',
    './_base_/runtime.py',
]

model = dict(
    backbone=dict(
        type='mae_toolkit.SparseCNN',
        arch='resnet50',
        out_indices=(1, 2, 3, 4),
        init_cfg=dict(
            type='Pretrained', checkpoint='work_dirs/spark_resnet-50_1600e_imagenet/epoch_1600.pth', prefix='encoder'
        ),
    ),
    neck=dict(in_channels=[256, 512, 1024, 2048], norm_cfg=dict(type='BN')),
    roi_head=dict(mask_head=dict(norm_cfg=dict(type='BN'))),
)
sync_bn = 'torch'
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(type='RandomChoiceResize', scales=[(size, 1333) for size in range(480, 897, 32)], keep_ratio=True),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackDetInputs'),
        ]
    )
)
optim_wrapper = dict(
    constructor='mae_toolkit.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(decay_rate=0.6),
    optimizer=dict(lr=2.5e-4),
)
