# ViTDet (arXiv:2203.16527): Mask R-CNN over a plain ViT-B with windows, large-scale jittering, 100 epochs of 64 images
# (4 on each of 16 GPUs), padded to squares of 1024 pixels, in testing too. Published: box AP 51.6, mask AP 45.7
# (MMDetection's projects/ViTDet).
_base_ = [
    '../_base_/backbones/vit-b_mae.py',
    './_base_/models/mask_rcnn_fpn.py',
    './_base_/datasets/coco_lsj.py',
    './_base_/schedules/vitdet_100e.py',
    './_base_/runtime_steps.py',
]

norm = dict(type='mae_toolkit.LayerNorm2d')
model = dict(
    backbone=dict(_base_.backbone, img_size=1024, window_size=14, global_blocks=(2, 5, 8, 11)),
    neck=dict(_delete_=True, type='mae_toolkit.SimplePyramid', in_channels=768, out_channels=256, num_outs=5),
    rpn_head=dict(num_convs=2),
    roi_head=dict(
        bbox_head=dict(type='Shared4Conv1FCBBoxHead', conv_out_channels=256, norm_cfg=norm),
        mask_head=dict(norm_cfg=norm),
    ),
)
pad = dict(type='Pad', size=(1024, 1024), pad_val=dict(img=(114, 114, 114)))
jitter = _base_.train_dataloader.dataset.pipeline
train_dataloader = dict(dataset=dict(pipeline=[*jitter[:5], pad, *jitter[5:]]))
held_out = _base_.val_dataloader.dataset.pipeline
resize = dict(type='Resize', scale=(1024, 1024), keep_ratio=True)
val_dataloader = test_dataloader = dict(dataset=dict(pipeline=[held_out[0], resize, pad, *held_out[2:]]))
default_hooks = dict(checkpoint=dict(interval=5000, max_keep_ckpts=3))
