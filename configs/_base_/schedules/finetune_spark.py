# SparK's fine-tuning of ConvNeXt (the official downstream_imagenet): base learning rate for 256 images, batch 4096,
# warm-up from a 200th, cosine to a 1000th, a moving average of the weights.
auto_scale_lr = dict(base_batch_size=4096)
train_cfg = dict(type='EpochTrainLoop', max_epochs=400, val_interval=1)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(decay_rate=0.7, grouping='group'),
    optimizer=dict(type='AdamW', lr=1e-4 * 4096 / 256, weight_decay=0.01, fused=True),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.005, begin=0, end=20, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.001, begin=20, by_epoch=True, convert_to_iter_based=True),
]
custom_hooks = [dict(type='EMAHook', momentum=1e-4)]
