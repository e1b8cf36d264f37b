# MILAN (arXiv:2208.06049) as in MMPretrain: MAE's learning rate and batch, 400 epochs, in float32.
auto_scale_lr = dict(base_batch_size=4096)
train_cfg = dict(type='EpochTrainLoop', max_epochs=400, val_interval=20)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='GroupedOptimWrapperConstructor',
    paramwise_cfg=dict(custom_keys=dict(mask_token=dict(decay_mult=0.0), cls_token=dict(decay_mult=0.0))),
    optimizer=dict(type='AdamW', lr=1.5e-4 * 4096 / 256, betas=(0.9, 0.95), weight_decay=0.05, fused=True),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=40, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=0.0, begin=40, by_epoch=True, convert_to_iter_based=True),
]
