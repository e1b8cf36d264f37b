# MMDetection's 3x: 36 epochs, the rate a tenth after the 27th and 33rd, in float16, with decay of the rate by layers.
_base_ = './epochs_12.py'

train_cfg = dict(max_epochs=36, val_interval=3)
auto_scale_lr = dict(base_batch_size=32)
optim_wrapper = dict(
    type='AmpOptimWrapper',
    constructor='mae_toolkit.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(decay_rate=0.95, grouping='block'),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=1000),
    dict(type='MultiStepLR', by_epoch=True, begin=0, milestones=[27, 33], gamma=0.1),
]
