# ViTDet (arXiv:2203.16527): Mask R-CNN over a plain ViT-B with windows, large-scale jittering, 100 epochs of 64 images.
# Published: box AP 51.6, mask AP 45.7 (MMDetection's projects/ViTDet).
_base_ = [
    './_base_/models/mask_rcnn_fpn.py',
    './_base_/datasets/coco_lsj_square.py',
    './_base_/schedules/vitdet_100e.py',
    './_base_/runtime_steps.py',
]

norm = dict(type='mae_toolkit.LayerNorm2d')
model = dict(
    backbone=dict(
        type='mae_toolkit.ViT',
        arch='vit_base_patch16_224',
        img_size=1024,
        positions='learned',
        window_size=14,
        global_blocks=(2, 5, 8, 11),
        rel_pos=True,
        final_norm=False,
        drop_path_rate=0.1,
        init_cfg=dict(
            type='Pretrained', checkpoint='work_dirs/mae_vit-b_1600e_imagenet/epoch_1600.pth', prefix='encoder'
        ),
    ),
    neck=dict(_delete_=True, type='mae_toolkit.SimplePyramid', in_channels=768, out_channels=256, num_outs=5),
    rpn_head=dict(num_convs=2),
    roi_head=dict(
        bbox_head=dict(type='Shared4Conv1FCBBoxHead', conv_out_channels=256, norm_cfg=norm),
        mask_head=dict(norm_cfg=norm),
    ),
)
train_dataloader = dict(batch_size=4)  # on each of 16 GPUs
default_hooks = dict(checkpoint=dict(interval=5000, max_keep_ckpts=3))
