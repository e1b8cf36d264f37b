# MaskFeat (arXiv:2112.09133) as in MMPretrain: base learning rate 2e-4 for 256 images, batch 2048, gradients clipped to
# 0.02.
auto_scale_lr = dict(base_batch_size=2048)
train_cfg = dict(type='EpochTrainLoop', max_epochs=300, val_interval=20)
optim_wrapper = dict(
    type='AmpOptimWrapper',
    dtype='float16',
    loss_scale='dynamic',
    constructor='GroupedOptimWrapperConstructor',
    paramwise_cfg=dict(custom_keys=dict(mask_token=dict(decay_mult=0.0))),  # the other tokens and positions are decayed
    clip_grad=dict(max_norm=0.02),
    optimizer=dict(type='AdamW', lr=2e-4 * 2048 / 256, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, begin=0, end=30, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-6, begin=30, by_epoch=True, convert_to_iter_based=True),
]
