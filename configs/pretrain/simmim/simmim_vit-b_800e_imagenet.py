# SimMIM, ViT-B/16, as published: 2048 images per step, for example 16 processes of 128.
_base_ = [
    '../../_base_/encoders/beit.py',
    '../../_base_/datasets/imagenet.py',
    '../../_base_/schedules/simmim_800e.py',
    '../../_base_/runtime.py',
]

model = dict(
    type='MaskedAutoencoder',
    data_preprocessor=_base_.data_preprocessor,
    encoder=_base_.encoder,
    masking=dict(type='RandomMasking', ratio=0.6, unit=32, count='ceil_hidden'),
    decoder=dict(type='LinearDecoder'),
    objectives=dict(pixel=dict(target=dict(type='PixelTarget'), losses=[dict(type='MaskedL1Loss')])),
)
train_dataloader = dict(
    batch_size=128,
    dataset=dict(
        pipeline=[
            dict(type='RandomResizedCrop', size=224, scale=(0.67, 1.0), interpolation='bilinear'),
            dict(type='RandomFlip', prob=0.5),
        ],
    ),
)
