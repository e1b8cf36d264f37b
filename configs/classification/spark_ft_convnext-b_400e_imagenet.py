# SparK's fine-tuning of ConvNeXt-B (the official downstream_imagenet): 4096 images per step, TrivialAugment in the
# place of RandAugment, 95% of the image when it is evaluated, a moving average of the weights. Published: 84.8% top-1,
# with every image augmented three times in an epoch, which this does not do.
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
        arch='convnext_base',
        drop_path_rate=0.4,
        init_cfg=dict(
            type='Pretrained', checkpoint='work_dirs/spark_convnext-b_1600e_imagenet/epoch_1600.pth', prefix='encoder'
        ),
    ),
    num_classes=1000,
    pooling='mean',
    head_norm=True,
    label_smoothing=0.1,
)
crop_and_flip = _base_.train_dataloader.dataset.pipeline[:2]
augment = dict(type='TrivialAugment', interpolation='bicubic')
train_dataloader = dict(dataset=dict(pipeline=[*crop_and_flip, augment]))
val_dataloader = dict(
    dataset=dict(
        pipeline=[dict(type='Resize', size=235, interpolation='bicubic'), dict(type='CenterCrop', size=224)],
    ),
)
auto_scale_lr = dict(base_batch_size=4096)
train_cfg = dict(max_epochs=400)
optim_wrapper = dict(
    _delete_=True,
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
