# UperNet over the ViT-B of DINOv2 (arXiv:2304.07193), with a pyramid from its last map, which is resized from stride 14
# to stride 16; else like upernet_vit-b_160k_ade20k.py, so that encoders can be compared.
_base_ = [
    '../_base_/backbones/vit-b_dinov2.py',
    './_base_/models/upernet.py',
    './_base_/datasets/ade20k.py',
    './_base_/schedules/steps_160k.py',
    './_base_/runtime.py',
]

model = dict(
    backbone=dict(_base_.backbone, final_norm=True),
    neck=dict(type='mae_toolkit.SimplePyramid', in_channels=768, out_channels=768, scale_factor=14 / 16),
    decode_head=dict(in_channels=[768, 768, 768, 768], channels=768),
    auxiliary_head=dict(in_channels=768),
)
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.65))
