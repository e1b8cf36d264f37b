# MaskFeat (arXiv:2112.09133), ViT-B/16, as in MMPretrain: 2048 images per step, for example 16 processes of 128. 78 of
# 196 patches are hidden; the encoder sees all tokens, with a mask token where they are.
_base_ = [
    '../../_base_/datasets/imagenet.py',
    '../../_base_/schedules/mae_800e.py',
    '../../_base_/runtime.py',
]

model = dict(
    type='MaskedAutoencoder',
    data_preprocessor=_base_.data_preprocessor,
    encoder=dict(type='ViT', arch='vit_base_patch16_224', img_size=224, positions='learned', mask_token=True),
    masking=dict(type='BlockMasking', ratio=78 / 196, min_cells=15, count='round_visible'),
    decoder=dict(type='LinearDecoder'),
    objectives=dict(hog=dict(target=dict(type='HOGTarget'), losses=[dict(type='MaskedL2Loss')])),
)
default_hooks = dict(reconstruction=None)  # histograms are not pictures
train_dataloader = dict(
    batch_size=128,
    dataset=dict(
        pipeline=[
            dict(type='RandomResizedCrop', size=224, scale=(0.5, 1.0), interpolation='bicubic'),
            dict(type='RandomFlip', prob=0.5),
        ],
    ),
)
auto_scale_lr = dict(base_batch_size=2048)
train_cfg = dict(max_epochs=300)
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys=dict(mask_token=dict(decay_mult=0.0))),  # the other tokens and positions are decayed
    clip_grad=dict(max_norm=0.02),
    optimizer=dict(lr=2e-4 * 2048 / 256, betas=(0.9, 0.999)),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, begin=0, end=30, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-6, begin=30, by_epoch=True, convert_to_iter_based=True),
]
