# Mask R-CNN over Hiera-B, with the schedule of ConvNeXt V2's transfer, so that encoders compare: large-scale
# jittering, 36 epochs of 32 images.
_base_ = [
    './_base_/models/mask_rcnn_fpn.py',
    './_base_/datasets/coco_lsj.py',
    './_base_/schedules/epochs_36.py',
    './_base_/runtime.py',
]

model = dict(
    backbone=dict(
        type='mae_toolkit.Hiera',
        arch='hiera_base_224',
        img_size=1024,
        out_indices=(0, 1, 2, 3),
        out_norms=True,
        drop_path_rate=0.2,
        init_cfg=dict(
            type='Pretrained', checkpoint='work_dirs/hiera_hiera-b_1600e_imagenet/epoch_1600.pth', prefix='encoder'
        ),
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
train_dataloader = dict(batch_size=4)  # on each of 8 GPUs
