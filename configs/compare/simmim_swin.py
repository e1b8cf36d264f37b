# SimMIM of a small Swin of three stages.
_base_ = ['../_base_/datasets/sets.py', '../_base_/schedules/compare.py', '../_base_/runtime.py']

model = dict(
    type='MaskedAutoencoder',
    data_preprocessor=_base_.data_preprocessor,
    encoder=dict(
        type='Swin',
        arch='swin_tiny_patch4_window7_224',
        embed_dim=48,
        depths=(2, 2, 4),
        num_heads=(2, 4, 8),
        window_size=6,
        img_size=96,
        mask_token=True,
    ),
    masking=dict(type='RandomMasking', ratio=0.6, count='ceil_hidden'),
    decoder=dict(type='LinearDecoder'),
    objectives=dict(pixel=dict(target=dict(type='PixelTarget'), losses=[dict(type='MaskedL1Loss')])),
)
