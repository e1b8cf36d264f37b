# FCMAE of ConvNeXt V2-A on the small sets.
_base_ = ['./_base_/sets_192.py', './_base_/pretrain.py', '../_base_/runtime.py']

model = dict(
    type='MaskedAutoencoder',
    data_preprocessor=_base_.data_preprocessor,
    encoder=dict(type='ConvNeXt', arch='convnextv2_atto'),
    masking=dict(type='RandomMasking', ratio=0.6),
    decoder=dict(type='ConvNeXtDecoder', embed_dim=256),
    objectives=dict(pixel=dict(target=dict(type='PixelTarget', norm_pix=True), losses=[dict(type='MaskedL2Loss')])),
)
