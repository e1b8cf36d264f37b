# MAE's transfer (arXiv:2111.06377, appendix A.4): UperNet over ViT-B, with a pyramid from the maps of four blocks, by
# transposed convolutions and pooling as in BEiT. Published: mIoU 48.1 (MMSegmentation: 48.13, at several scales 48.70).
# Positions are relative in this transfer alone; here by rows and columns (arXiv:2203.16527), without a class token.
_base_ = [
    '../_base_/backbones/vit-b_mae.py',
    './_base_/models/upernet.py',
    './_base_/datasets/ade20k.py',
    './_base_/schedules/steps_160k.py',
    './_base_/runtime.py',
]

model = dict(
    backbone=dict(_base_.backbone, img_size=512, class_token=False, out_indices=(3, 5, 7, 11)),
    neck=dict(type='Feature2Pyramid', embed_dim=768, rescales=[4, 2, 1, 0.5], norm_cfg=dict(type='BN')),
    decode_head=dict(in_channels=[768, 768, 768, 768], channels=768),
    auxiliary_head=dict(in_channels=768),
)
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.65))
