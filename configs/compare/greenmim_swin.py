# GreenMIM of a small Swin of three stages.
_base_ = [
    '../_base_/encoders/swin_mini.py',
    '../_base_/datasets/sets.py',
    '../_base_/schedules/compare.py',
    '../_base_/runtime.py',
]

model = dict(
    type='MaskedAutoencoder',
    data_preprocessor=_base_.data_preprocessor,
    encoder=_base_.encoder,
    masking=dict(type='RandomMasking', ratio=0.75),
    decoder=dict(type='TransformerDecoder', embed_dim=96, depth=1, num_heads=4),
    objectives=dict(pixel=dict(target=dict(type='PixelTarget', norm_pix=True), losses=[dict(type='MaskedL2Loss')])),
)
