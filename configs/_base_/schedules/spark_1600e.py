# SparK (arXiv:2301.03580, section 4.1, and the official pretrain/utils/arg_util.py): base learning rate 2e-4 for 256
# images, batch 4096, in float32; the weight decay rises from 0.04 to 0.2.
auto_scale_lr = dict(base_batch_size=4096)
train_cfg = dict(type='EpochTrainLoop', max_epochs=1600, val_interval=20)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='GroupedOptimWrapperConstructor',
    paramwise_cfg=dict(custom_keys=dict(mask_token=dict(decay_mult=0.0))),
    optimizer=dict(
        type='Lamb', lr=2e-4 * 4096 / 256, betas=(0.9, 0.95), eps=1e-6, weight_decay=0.04, max_grad_norm=5.0
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.005, begin=0, end=40, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.001, begin=40, by_epoch=True, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingParamScheduler',
        param_name='weight_decay',
        eta_min_ratio=0.2 / 0.04,  # a ratio, because an eta_min would also decay what is exempt
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
