# FCMAE's fine-tuning of ConvNeXt V2-B: layers by twelve groups, twenty epochs of warm-up, a moving average of the
# weights, which is what is validated and saved.
_base_ = './finetune.py'

optim_wrapper = dict(
    paramwise_cfg=dict(decay_rate=0.6, grouping='group'),
    optimizer=dict(lr=6.25e-4 * 1024 / 256),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, begin=0, end=20, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=1e-6 / 2.5e-3, begin=20, by_epoch=True, convert_to_iter_based=True),
]
custom_hooks = [dict(type='EMAHook', momentum=1e-4)]
