# Cascade Mask R-CNN over ConvNeXt V2, otherwise as mask-rcnn_convnextv2-b_lsj-3x_coco.py.
_base_ = [
    './_base_/models/cascade_mask_rcnn_fpn.py',
    './_base_/datasets/coco_lsj.py',
    './_base_/schedules/epochs_36.py',
    './_base_/runtime.py',
]

model = dict(
    backbone=dict(
        type='mae_toolkit.ConvNeXt',
        arch='convnextv2_base',
        out_indices=(0, 1, 2, 3),
        out_norms=True,
        drop_path_rate=0.4,
        init_cfg=dict(
            type='Pretrained', checkpoint='work_dirs/fcmae_convnextv2-b_1600e_imagenet/epoch_1600.pth', prefix='encoder'
        ),
    ),
    neck=dict(in_channels=[128, 256, 512, 1024]),
    test_cfg=dict(rcnn=dict(nms=dict(type='soft_nms'))),
)
train_dataloader = dict(batch_size=4)  # on each of 8 GPUs
optim_wrapper = dict(paramwise_cfg=dict(grouping='group'))
