# Linear probing as MAE does it (arXiv:2111.06377, appendix A.1, table 10): LARS (arXiv:1708.03888), base learning rate
# 0.1 for 256 images, batch 16384, no weight decay, ten epochs of warm-up. The official LARS scales the steps of weights
# of two dimensions, decayed or not, and not those of biases.
auto_scale_lr = dict(base_batch_size=16384)
train_cfg = dict(type='EpochTrainLoop', max_epochs=90, val_interval=1)
optim_wrapper = dict(
    type='AmpOptimWrapper',
    dtype='float16',
    loss_scale='dynamic',
    constructor='GroupedOptimWrapperConstructor',
    paramwise_cfg=dict(custom_keys={'linear.bias': dict(always_adapt=False)}),
    optimizer=dict(
        type='Lars', lr=0.1 * 16384 / 256, momentum=0.9, weight_decay=0.0, trust_coeff=0.001, always_adapt=True
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, begin=0, end=10, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=0.0, begin=10, by_epoch=True, convert_to_iter_based=True),
]
# Statistics of the batch norm before the linear layer are those of all processes when an epoch ends.
custom_hooks = [dict(type='SyncBuffersHook')]
