# Mask R-CNN over Swin-B, with the schedule of ConvNeXt V2's transfer, so that encoders compare: large-scale
# jittering, 36 epochs of 32 images.
_base_ = [
    './_base_/models/mask_rcnn_fpn.py',
    './_base_/datasets/coco_lsj.py',
    './_base_/schedules/epochs_36.py',
    './_base_/runtime.py',
]

model = dict(
    backbone=dict(
        type='mae_toolkit.Swin',
        arch='swin_base_patch4_window7_224',
        img_size=1024,
        window_size=7,
        out_indices=(0, 1, 2, 3),
        out_norms=True,
        final_norm=False,
        drop_path_rate=0.3,
        init_cfg=dict(
            type='Pretrained', checkpoint='work_dirs/simmim_swin-b_800e_imagenet/epoch_800.pth', prefix='encoder'
        ),
    ),
    neck=dict(in_channels=[128, 256, 512, 1024]),
)
train_dataloader = dict(batch_size=4)  # on each of 8 GPUs
