# SimMIM, Swin-B at 192 pixels, as published: 2048 images per step, for example 16 processes of 128.
_base_ = [
    '../../_base_/encoders/swin_mask_token.py',
    '../../_base_/datasets/imagenet_simmim_192.py',
    '../../_base_/schedules/simmim_800e.py',
    '../../_base_/runtime.py',
]

model = dict(
    type='MaskedAutoencoder',
    data_preprocessor={{_base_.data_preprocessor}},
    encoder={{_base_.encoder}},
    masking=dict(type='RandomMasking', ratio=0.6, count='ceil_hidden'),
    decoder=dict(type='LinearDecoder'),
    objectives=dict(
        pixel=dict(
            target=dict(type='PixelTarget'),
            losses=[dict(type='MaskedL1Loss')],
        ),
    ),
)
train_dataloader = dict(batch_size=128)
