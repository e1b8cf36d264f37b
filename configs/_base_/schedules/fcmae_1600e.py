# FCMAE (arXiv:2301.00808, appendix A.1, table 9): base learning rate 1.5e-4 for 256 images, batch 4096, in float32.
auto_scale_lr = dict(base_batch_size=4096)
train_cfg = dict(type='EpochTrainLoop', max_epochs=1600, val_interval=20)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='GroupedOptimWrapperConstructor',
    paramwise_cfg=dict(custom_keys=dict(grn=dict(decay_mult=1.0))),  # as officially, where GRN's have two dimensions
    optimizer=dict(type='AdamW', lr=1.5e-4 * 4096 / 256, betas=(0.9, 0.95), weight_decay=0.05, fused=True),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, begin=0, end=40, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=0.0, begin=40, by_epoch=True, convert_to_iter_based=True),
]
