# GreenMIM, Swin-B with windows of 7, as published: 4096 images per step, for example 64 processes of 64.
_base_ = [
    '../../_base_/datasets/imagenet.py',
    '../../_base_/schedules/mae_800e.py',
    '../../_base_/runtime.py',
]

model = dict(
    type='MaskedAutoencoder',
    data_preprocessor=_base_.data_preprocessor,
    encoder=dict(type='Swin', arch='swin_base_patch4_window7_224', img_size=224, norm_eps=1e-6),
    masking=dict(type='RandomMasking', ratio=0.75, shared=True),
    decoder=dict(type='TransformerDecoder', embed_dim=512, depth=1, num_heads=16),
    objectives=dict(pixel=dict(target=dict(type='PixelTarget', norm_pix=True), losses=[dict(type='MaskedL2Loss')])),
)
optim_wrapper = dict(
    paramwise_cfg=dict(no_weight_decay=True, custom_keys=dict(mask_token=dict(decay_mult=0.0))),
)
