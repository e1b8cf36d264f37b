# ViTDet (arXiv:2203.16527) over the ViT-B of DINOv2 (arXiv:2304.07193), like mask-rcnn_vit-b_lsj-100e_coco.py, so that
# encoders can be compared. Its maps of stride 14 are resized to stride 16 before the pyramid, to 64 x 64 of 74 x 74.
_base_ = [
    '../_base_/backbones/vit-b_dinov2.py',
    './_base_/models/mask_rcnn_vitdet.py',
    './_base_/datasets/coco_lsj_square.py',
    './_base_/schedules/vitdet_100e.py',
    './_base_/runtime_steps.py',
]

model = dict(backbone=_base_.backbone, neck=dict(scale_factor=14 / 16))
default_hooks = dict(checkpoint=dict(interval=5000, max_keep_ckpts=3))
