# 80 thousand steps of 16 images: AdamW and a polynomial to zero, as PVT's recipe for Semantic FPN (arXiv:2102.12122).
steps = 80000
train_cfg = dict(type='IterBasedTrainLoop', max_iters=steps, val_interval=max(1, steps // 10))
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(base_batch_size=16)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='mae_toolkit.GroupedOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=1e-4),
)
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, by_epoch=False, begin=0)]
