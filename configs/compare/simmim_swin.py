# SimMIM of a small Swin of three stages.
_base_ = [
    '../_base_/encoders/swin_mini.py',
    '../_base_/datasets/sets.py',
    '../_base_/schedules/compare.py',
    '../_base_/runtime.py',
]

model = dict(
    type='MaskedAutoencoder',
    data_preprocessor=_base_.data_preprocessor,
    encoder=dict(_base_.encoder, mask_token=True),
    masking=dict(type='RandomMasking', ratio=0.6, count='ceil_hidden'),
    decoder=dict(type='LinearDecoder'),
    objectives=dict(pixel=dict(target=dict(type='PixelTarget'), losses=[dict(type='MaskedL1Loss')])),
)
