# A linear layer on a small set.
train_cfg = dict(type='EpochTrainLoop', max_epochs=30, val_interval=5)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='GroupedOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-2, weight_decay=1e-4, fused=True),
)
param_scheduler = [
    dict(type='CosineAnnealingLR', eta_min=0.0, begin=0, by_epoch=True, convert_to_iter_based=True),
]
