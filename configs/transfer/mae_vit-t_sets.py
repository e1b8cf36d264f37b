# MAE of ViT-T on the small sets.
_base_ = ['./_base_/sets_192.py', './_base_/pretrain.py', '../_base_/runtime.py']

model = dict(
    type='MaskedAutoencoder',
    data_preprocessor=_base_.data_preprocessor,
    encoder=dict(type='ViT', arch='vit_tiny_patch16_224', img_size=192),
    masking=dict(type='RandomMasking', ratio=0.75),
    decoder=dict(type='TransformerDecoder', embed_dim=128, depth=4, num_heads=4),
    objectives=dict(pixel=dict(target=dict(type='PixelTarget', norm_pix=True), losses=[dict(type='MaskedL2Loss')])),
)
