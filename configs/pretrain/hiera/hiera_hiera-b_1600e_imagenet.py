# Hiera's masked autoencoder, Hiera-B, as published: 4096 images per step, for example 64 processes of 64.
_base_ = [
    '../../_base_/encoders/hiera.py',
    '../../_base_/datasets/imagenet.py',
    '../../_base_/schedules/hiera_1600e.py',
    '../../_base_/runtime.py',
]

model = dict(
    type='MaskedAutoencoder',
    data_preprocessor={{_base_.data_preprocessor}},
    encoder={{_base_.encoder}},
    masking=dict(type='RandomMasking', ratio=0.6),
    decoder=dict(type='TransformerDecoder', embed_dim=512, depth=8, num_heads=16, fusion=True, positions='learned'),
    objectives=dict(
        pixel=dict(
            target=dict(type='PixelTarget', norm_pix=True),
            losses=[dict(type='MaskedL2Loss')],
        ),
    ),
)
