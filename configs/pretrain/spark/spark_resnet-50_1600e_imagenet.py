# SparK, ResNet-50, as published: 4096 images per step, for example 64 processes of 64. The statistics of batch norms
# are those of what is visible in all processes.
_base_ = [
    '../../_base_/datasets/imagenet_spark.py',
    '../../_base_/schedules/spark_1600e.py',
    '../../_base_/runtime.py',
]

model = dict(
    type='MaskedAutoencoder',
    data_preprocessor=_base_.data_preprocessor,
    encoder=dict(type='SparseCNN', arch='resnet50', out_indices=(1, 2, 3, 4), sync_bn=True, drop_path_rate=0.05),
    masking=dict(type='RandomMasking', ratio=0.6, count='round_visible'),
    decoder=dict(type='UNetDecoder', width=768, norm='batch', sync_bn=True),
    objectives=dict(pixel=dict(target=dict(type='PixelTarget', norm_pix=True), losses=[dict(type='MaskedL2Loss')])),
)
