# data2vec (arXiv:2202.03555, section 4.1): learning rate 2e-3 at batch 2048, which is no scaled base rate.
auto_scale_lr = dict(base_batch_size=2048)
train_cfg = dict(type='EpochTrainLoop', max_epochs=800, val_interval=20)
optim_wrapper = dict(
    type='AmpOptimWrapper',
    dtype='float16',
    loss_scale='dynamic',
    constructor='GroupedOptimWrapperConstructor',
    paramwise_cfg=dict(no_weight_decay=True),  # tables of relative positions and tokens are not decayed
    clip_grad=dict(max_norm=3.0),
    optimizer=dict(type='AdamW', lr=2e-3, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6 / 2e-3, begin=0, end=40, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, begin=40, by_epoch=True, convert_to_iter_based=True),
]
