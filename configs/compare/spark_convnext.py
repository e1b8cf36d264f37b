# SparK of the first three stages of a small ConvNeXt.
_base_ = ['../_base_/datasets/sets.py', '../_base_/schedules/compare.py', '../_base_/runtime.py']

model = dict(
    type='MaskedAutoencoder',
    data_preprocessor=_base_.data_preprocessor,
    encoder=dict(type='ConvNeXt', arch='convnext_atto', out_indices=(0, 1, 2)),
    masking=dict(type='RandomMasking', ratio=0.6, count='round_visible'),
    decoder=dict(type='UNetDecoder', width=128, norm='layer'),
    objectives=dict(pixel=dict(target=dict(type='PixelTarget', norm_pix=True), losses=[dict(type='MaskedL2Loss')])),
)
