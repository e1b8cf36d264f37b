# ViTDet's schedule (arXiv:2203.16527, appendix A.2): 100 epochs of 64 images, 184375 steps; the rate a tenth at 8/9 and
# 26/27 of them.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=184375, val_interval=5000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(base_batch_size=64)
optim_wrapper = dict(
    type='AmpOptimWrapper',
    constructor='mae_toolkit.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(decay_rate=0.7),
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.1),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=250),
    dict(type='MultiStepLR', by_epoch=False, begin=0, milestones=[163889, 177546], gamma=0.1),
]
