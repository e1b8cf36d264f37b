# Fine-tuning as MAE does it (arXiv:2111.06377, appendix A.1, table 9): AdamW, layer-wise decay, five epochs of warm-up,
# cosine to 1e-6. Learning rate, decay and epochs differ from recipe to recipe.
auto_scale_lr = dict(base_batch_size=1024)
train_cfg = dict(type='EpochTrainLoop', max_epochs=100, val_interval=1)
optim_wrapper = dict(
    type='AmpOptimWrapper',
    dtype='float16',
    loss_scale='dynamic',
    constructor='LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(decay_rate=0.65),
    optimizer=dict(type='AdamW', lr=5e-4 * 1024 / 256, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, begin=0, end=5, by_epoch=True, convert_to_iter_based=True),
    # a ratio, because the rates of all layers end there
    dict(type='CosineAnnealingLR', eta_min_ratio=1e-6 / 2e-3, begin=5, by_epoch=True, convert_to_iter_based=True),
]
