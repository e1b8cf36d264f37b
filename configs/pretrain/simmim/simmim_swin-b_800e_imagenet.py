# SimMIM, Swin-B at 192 pixels, as published: 2048 images per step, for example 16 processes of 128. Windows of 6, and a
# mask token where tokens are hidden.
_base_ = [
    '../../_base_/datasets/imagenet.py',
    '../../_base_/schedules/simmim_800e.py',
    '../../_base_/runtime.py',
]

model = dict(
    type='MaskedAutoencoder',
    data_preprocessor=_base_.data_preprocessor,
    encoder=dict(type='Swin', arch='swin_base_patch4_window7_224', img_size=192, window_size=6, mask_token=True),
    masking=dict(type='RandomMasking', ratio=0.6, count='ceil_hidden'),
    decoder=dict(type='LinearDecoder'),
    objectives=dict(pixel=dict(target=dict(type='PixelTarget'), losses=[dict(type='MaskedL1Loss')])),
)
train_dataloader = dict(
    batch_size=128,
    dataset=dict(
        pipeline=[
            dict(type='RandomResizedCrop', size=192, scale=(0.67, 1.0), interpolation='bilinear'),
            dict(type='RandomFlip', prob=0.5),
        ],
    ),
)
val_dataloader = dict(
    dataset=dict(
        pipeline=[dict(type='Resize', size=219, interpolation='bilinear'), dict(type='CenterCrop', size=192)],
    ),
)
