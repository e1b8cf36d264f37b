# MAE, ViT-B/16 on ImageNet-1k, as published: 4096 images per step, for example 64 processes of 64.
_base_ = [
    '../../_base_/datasets/imagenet.py',
    '../../_base_/schedules/mae_800e.py',
    '../../_base_/runtime.py',
]

model = dict(
    type='MaskedAutoencoder',
    data_preprocessor=_base_.data_preprocessor,
    encoder=dict(type='ViT', arch='vit_base_patch16_224', img_size=224),
    masking=dict(type='RandomMasking', ratio=0.75),
    decoder=dict(type='TransformerDecoder', embed_dim=512, depth=8, num_heads=16),
    objectives=dict(pixel=dict(target=dict(type='PixelTarget', norm_pix=True), losses=[dict(type='MaskedL2Loss')])),
)
