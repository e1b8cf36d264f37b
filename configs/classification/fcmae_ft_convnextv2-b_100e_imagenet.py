# FCMAE's fine-tuning of ConvNeXt V2-B (the official TRAINING.md): 1024 images per step, layers decayed by twelve
# groups, a moving average of the weights. Published: 84.9% top-1.
_base_ = [
    '../_base_/datasets/imagenet_labeled.py',
    '../_base_/schedules/finetune.py',
    '../_base_/runtime_classification.py',
]

model = dict(
    type='Classifier',
    data_preprocessor=_base_.data_preprocessor,
    encoder=dict(
        type='ConvNeXt',
        arch='convnextv2_base',
        drop_path_rate=0.1,
        init_cfg=dict(
            type='Pretrained', checkpoint='work_dirs/fcmae_convnextv2-b_1600e_imagenet/epoch_1600.pth', prefix='encoder'
        ),
    ),
    num_classes=1000,
    pooling='mean',
    head_norm=True,
    head_std=2e-5,  # 0.02 times head_init=0.001
    label_smoothing=0.1,
)
optim_wrapper = dict(
    paramwise_cfg=dict(decay_rate=0.6, grouping='group'),
    optimizer=dict(lr=6.25e-4 * 1024 / 256),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, begin=0, end=20, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=1e-6 / 2.5e-3, begin=20, by_epoch=True, convert_to_iter_based=True),
]
custom_hooks = [dict(type='EMAHook', momentum=1e-4)]  # the average of the weights is what is validated and saved
