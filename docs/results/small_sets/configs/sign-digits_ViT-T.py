data_preprocessor = dict(
    mean=[
        123.675,
        116.28,
        103.53,
    ],
    random_erasing=0.25,
    std=[
        58.395,
        57.12,
        57.375,
    ],
    type='ClassificationPreprocessor')
default_hooks = dict(
    broken_images=dict(max_share=0.05, type='BrokenImagesHook'),
    checkpoint=dict(
        interval=1,
        max_keep_ckpts=3,
        rule='greater',
        save_best='accuracy/top1',
        type='SafeCheckpointHook'),
    iteration_seed=dict(type='IterationSeedHook'),
    logger=dict(interval=50, log_metric_by_epoch=False, type='LoggerHook'),
    loss_curve=dict(type='LossCurveHook'),
    nan_guard=dict(action='stop', type='NaNGuardHook'),
    progress=dict(type='ProgressHook'),
    reconstruction=None)
default_scope = 'mae_toolkit'
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
log_level = 'INFO'
log_processor = dict(
    by_epoch=True,
    log_with_hierarchy=True,
    mean_pattern='^(?!(val|test)/).*(loss|time|grad_norm).*',
    type='LogProcessor',
    window_size=10)
model = dict(
    data_preprocessor=dict(
        mean=[
            123.675,
            116.28,
            103.53,
        ],
        random_erasing=0.0,
        std=[
            58.395,
            57.12,
            57.375,
        ],
        type='ClassificationPreprocessor'),
    encoder=dict(
        arch='vit_tiny_patch16_224',
        drop_path_rate=0.1,
        final_norm=False,
        img_size=192,
        init_cfg=None,
        out_indices=(11, ),
        type='ViT'),
    head_norm=True,
    label_smoothing=0.1,
    num_classes=10,
    pooling='mean',
    type='Classifier')
optim_wrapper = dict(
    clip_grad=dict(max_norm=5.0),
    constructor='LayerDecayOptimWrapperConstructor',
    optimizer=dict(
        betas=(
            0.9,
            0.999,
        ),
        fused=True,
        lr=0.002,
        type='AdamW',
        weight_decay=0.05),
    paramwise_cfg=dict(decay_rate=0.8),
    type='OptimWrapper')
param_scheduler = [
    dict(
        begin=0,
        by_epoch=False,
        convert_to_iter_based=False,
        end=30,
        start_factor=0.001,
        type='LinearLR'),
    dict(
        begin=0,
        by_epoch=True,
        convert_to_iter_based=True,
        eta_min=0.0,
        type='CosineAnnealingLR'),
]
randomness = dict(diff_rank_seed=True, seed=0)
size = 64
test_cfg = dict(type='TestLoop')
test_dataloader = dict(
    batch_size=64,
    collate_fn=dict(type='mae_toolkit.image_collate'),
    dataset=dict(
        classes='train',
        data_root='data/sets/sign_digits',
        pipeline=[
            dict(interpolation='bicubic', size=64, type='Resize'),
            dict(size=64, type='CenterCrop'),
        ],
        split='test',
        type='LabelledDataset'),
    num_workers=0,
    sampler=dict(round_up=False, shuffle=False, type='EpochSampler'))
test_evaluator = dict(
    topk=(
        1,
        5,
    ), type='Accuracy')
train_cfg = dict(
    max_epochs=3, type='EpochTrainLoop', val_begin=1000, val_interval=5)
train_dataloader = dict(
    batch_size=16,
    collate_fn=dict(type='mae_toolkit.image_collate'),
    dataset=dict(
        data_root='data/sets/sign_digits',
        labels=0.1,
        labels_seed=0,
        pipeline=[
            dict(
                interpolation='bicubic',
                scale=[
                    0.6,
                    1.0,
                ],
                size=64,
                type='RandomResizedCrop'),
            dict(prob=0.5, type='RandomFlip'),
        ],
        repeat=10,
        split='train',
        type='LabelledDataset'),
    drop_last=True,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(shuffle=True, type='EpochSampler'))
val_cfg = dict(type='ValLoop')
val_dataloader = dict(
    batch_size=64,
    collate_fn=dict(type='mae_toolkit.image_collate'),
    dataset=dict(
        classes='train',
        data_root='data/sets/sign_digits',
        pipeline=[
            dict(interpolation='bicubic', size=64, type='Resize'),
            dict(size=64, type='CenterCrop'),
        ],
        split='val',
        type='LabelledDataset'),
    num_workers=0,
    sampler=dict(round_up=False, shuffle=False, type='EpochSampler'))
val_evaluator = dict(
    topk=(
        1,
        5,
    ), type='Accuracy')
visualizer = dict(
    type='Visualizer',
    vis_backends=[
        dict(type='LocalVisBackend'),
        dict(type='TensorboardVisBackend'),
    ])
