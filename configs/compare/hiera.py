# Hiera-MAE of a small Hiera.
_base_ = ['../_base_/datasets/sets.py', '../_base_/schedules/compare.py', '../_base_/runtime.py']

model = dict(
    type='MaskedAutoencoder',
    data_preprocessor=_base_.data_preprocessor,
    encoder=dict(
        type='Hiera',
        arch='hiera_tiny_224',
        stages=(1, 2, 3),
        embed_dim=48,
        num_heads=1,
        q_pool=2,
        mask_unit_size=(4, 4),
        mask_unit_attn=(True, True, False),
        img_size=96,
        out_indices=(0, 1, 2),
    ),
    masking=dict(type='RandomMasking', ratio=0.6),
    decoder=dict(type='TransformerDecoder', embed_dim=96, depth=2, num_heads=4, fusion=True),
    objectives=dict(pixel=dict(target=dict(type='PixelTarget', norm_pix=True), losses=[dict(type='MaskedL2Loss')])),
)
