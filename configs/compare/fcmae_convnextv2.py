# FCMAE of the first three stages of ConvNeXt V2-A.
_base_ = ['../_base_/datasets/sets.py', '../_base_/schedules/compare.py', '../_base_/runtime.py']

model = dict(
    type='MaskedAutoencoder',
    data_preprocessor=_base_.data_preprocessor,
    encoder=dict(type='ConvNeXt', arch='convnextv2_atto', out_indices=(2,)),
    masking=dict(type='RandomMasking', ratio=0.6),
    decoder=dict(type='ConvNeXtDecoder', embed_dim=128),
    objectives=dict(pixel=dict(target=dict(type='PixelTarget', norm_pix=True), losses=[dict(type='MaskedL2Loss')])),
)
