# ViTDet (arXiv:2203.16527): Mask R-CNN over a plain ViT-B with windows, large-scale jittering, 100 epochs of 64 images
# (4 on each of 16 GPUs), padded to squares of 1024 pixels, in testing too. Published: box AP 51.6, mask AP 45.7
# (MMDetection's projects/ViTDet).
_base_ = [
    '../_base_/backbones/vit-b_mae.py',
    './_base_/models/mask_rcnn_vitdet.py',
    './_base_/datasets/coco_lsj_square.py',
    './_base_/schedules/vitdet_100e.py',
    './_base_/runtime_steps.py',
]

model = dict(backbone=_base_.backbone)
default_hooks = dict(checkpoint=dict(interval=5000, max_keep_ckpts=3))
