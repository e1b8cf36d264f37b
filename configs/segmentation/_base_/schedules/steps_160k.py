# 160 thousand steps of 16 images: AdamW, a warm-up of 1500 steps, then a straight line to zero, as the recipes of Swin
# (arXiv:2103.14030), BEiT and ConvNeXt have it. The layer decay is ConvNeXt's.
steps = 160000
warmup = 1500
train_cfg = dict(type='IterBasedTrainLoop', max_iters=steps, val_interval=max(1, steps // 10))
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(base_batch_size=16)
optim_wrapper = dict(
    type='AmpOptimWrapper',
    constructor='mae_toolkit.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(decay_rate=0.9, grouping='block'),
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=warmup),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=warmup),
]
