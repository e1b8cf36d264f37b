# Mask R-CNN over ResNet-50, with the schedule of ConvNeXt V2's transfer, so that encoders compare: large-scale
# jittering, 36 epochs of 32 images.
_base_ = [
    './_base_/models/mask_rcnn_fpn.py',
    './_base_/datasets/coco_lsj.py',
    './_base_/schedules/epochs_36.py',
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
    neck=dict(in_channels=[256, 512, 1024, 2048]),
)
train_dataloader = dict(batch_size=4)  # on each of 8 GPUs
