# Hiera (arXiv:2306.00989, appendix B): learning rate 8e-4 at batch 4096.
auto_scale_lr = dict(base_batch_size=4096)
train_cfg = dict(type='EpochTrainLoop', max_epochs=1600, val_interval=20)
optim_wrapper = dict(
    type='AmpOptimWrapper',
    dtype='float16',
    loss_scale='dynamic',
    constructor='GroupedOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=8e-4, betas=(0.9, 0.95), weight_decay=0.05, fused=True),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, begin=0, end=40, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=0.0, begin=40, by_epoch=True, convert_to_iter_based=True),
]
