# data2vec (arXiv:2202.03555, section 4.1), ViT-B/16: 2048 images per step, for example 16 processes of 128. What is
# predicted is the mean of the last six blocks of a moving average of the encoder. The learning rate, 2e-3 at batch
# 2048, is not a scaled base rate.
_base_ = [
    '../../_base_/encoders/beit.py',
    '../../_base_/datasets/imagenet.py',
    '../../_base_/schedules/mae_800e.py',
    '../../_base_/runtime.py',
]

model = dict(
    type='MaskedAutoencoder',
    data_preprocessor=_base_.data_preprocessor,
    encoder=dict(_base_.encoder, init_values=1e-4, drop_path_rate=0.25, attn_drop_rate=0.05),
    masking=dict(type='BlockMasking', ratio=120 / 196, min_cells=16, count='round_visible'),
    decoder=dict(type='LinearDecoder'),
    objectives=dict(
        latent=dict(target=dict(type='EMATarget', levels=6), losses=[dict(type='MaskedSmoothL1Loss', beta=2.0)])
    ),
)
custom_hooks = [dict(type='MomentumHook', momentum=0.9998)]
default_hooks = dict(reconstruction=None)  # features are not pictures
train_dataloader = dict(
    batch_size=128,
    dataset=dict(
        pipeline=[
            dict(type='RandomResizedCrop', size=224, scale=(0.08, 1.0), interpolation='bicubic'),
            dict(type='RandomFlip', prob=0.5),
        ],
    ),
)
auto_scale_lr = dict(base_batch_size=2048)
optim_wrapper = dict(
    paramwise_cfg=dict(no_weight_decay=True),  # tables of relative positions and tokens are not decayed
    clip_grad=dict(max_norm=3.0),
    optimizer=dict(lr=2e-3, betas=(0.9, 0.999)),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6 / 2e-3, begin=0, end=40, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, begin=40, by_epoch=True, convert_to_iter_based=True),
]
