# Five hundred steps of a small detector or segmenter, a few minutes on two CPU cores: AdamW, a short warm-up, then a
# cosine to zero.
steps = 500
warmup = 50
train_cfg = dict(type='IterBasedTrainLoop', max_iters=steps, val_interval=max(1, steps // 2))
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(base_batch_size=4)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='mae_toolkit.GroupedOptimWrapperConstructor',
    clip_grad=dict(max_norm=5.0),
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=False, begin=0, end=warmup),
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=False, begin=warmup),
]
