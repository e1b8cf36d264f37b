# Hiera-MAE of a Hiera-T of half the width, on the small sets.
_base_ = ['./_base_/sets_192.py', './_base_/pretrain.py', '../_base_/runtime.py']

model = dict(
    type='MaskedAutoencoder',
    data_preprocessor=_base_.data_preprocessor,
    encoder=dict(type='Hiera', arch='hiera_tiny_224', embed_dim=48, img_size=192, q_pool=2, out_indices=(0, 1, 3)),
    masking=dict(type='RandomMasking', ratio=0.6),
    decoder=dict(type='TransformerDecoder', embed_dim=128, depth=4, num_heads=4, fusion=True),
    objectives=dict(pixel=dict(target=dict(type='PixelTarget', norm_pix=True), losses=[dict(type='MaskedL2Loss')])),
)
