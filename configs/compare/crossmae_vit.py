# CrossMAE of the small ViT: a third of the hidden cells is decoded, each on its own.
_base_ = [
    '../_base_/encoders/vit_mini.py',
    '../_base_/datasets/sets.py',
    '../_base_/schedules/compare.py',
    '../_base_/runtime.py',
]

model = dict(
    type='MaskedAutoencoder',
    data_preprocessor=_base_.data_preprocessor,
    encoder=dict(_base_.encoder, out_indices=(-1, 0, 1, 2, 3, 4, 5), final_norm=False),
    masking=dict(type='RandomMasking', ratio=0.75, predict_ratio=0.25),
    decoder=dict(type='CrossAttentionDecoder', embed_dim=96, depth=4, num_heads=4),
    objectives=dict(pixel=dict(target=dict(type='PixelTarget', norm_pix=True), losses=[dict(type='MaskedL2Loss')])),
)
