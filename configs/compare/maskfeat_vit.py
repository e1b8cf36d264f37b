# MaskFeat of the small ViT, with a mask token: it predicts histograms of gradients.
_base_ = [
    '../_base_/encoders/vit_mini.py',
    '../_base_/datasets/sets.py',
    '../_base_/schedules/compare.py',
    '../_base_/runtime.py',
]

model = dict(
    type='MaskedAutoencoder',
    data_preprocessor=_base_.data_preprocessor,
    encoder=dict(_base_.encoder, mask_token=True),
    masking=dict(type='BlockMasking', ratio=0.4),
    decoder=dict(type='LinearDecoder'),
    objectives=dict(hog=dict(target=dict(type='HOGTarget'), losses=[dict(type='MaskedL2Loss')])),
)
