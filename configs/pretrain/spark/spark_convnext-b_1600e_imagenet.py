# SparK, ConvNeXt-B, as published: 4096 images per step, for example 64 processes of 64.
_base_ = [
    '../../_base_/datasets/imagenet_spark.py',
    '../../_base_/schedules/spark_1600e.py',
    '../../_base_/runtime.py',
]

model = dict(
    type='MaskedAutoencoder',
    data_preprocessor=_base_.data_preprocessor,
    encoder=dict(type='ConvNeXt', arch='convnext_base', out_indices=(0, 1, 2, 3), drop_path_rate=0.3),
    masking=dict(type='RandomMasking', ratio=0.6, count='round_visible'),
    decoder=dict(type='UNetDecoder', width=768, norm='layer', sync_bn=True),
    objectives=dict(pixel=dict(target=dict(type='PixelTarget', norm_pix=True), losses=[dict(type='MaskedL2Loss')])),
)
optim_wrapper = dict(optimizer=dict(betas=(0.9, 0.999)))
