# ViTDet (arXiv:2203.16527) over the ViT-B of DINOv3 (arXiv:2508.10104), like mask-rcnn_vit-b_lsj-100e_coco.py, so that
# encoders can be compared. Within windows it has no class and register tokens.
_base_ = [
    '../_base_/backbones/vit-b_dinov3.py',
    './_base_/models/mask_rcnn_vitdet.py',
    './_base_/datasets/coco_lsj_square.py',
    './_base_/schedules/vitdet_100e.py',
    './_base_/runtime_steps.py',
]

model = dict(backbone=_base_.backbone)
default_hooks = dict(checkpoint=dict(interval=5000, max_keep_ckpts=3))
