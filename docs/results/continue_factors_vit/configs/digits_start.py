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
data_root = 'data/own/sign_digits'
default_hooks = dict(
    batch_norm_statistics=None,
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
draw_every = 20
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
    batch_norm=True,
    data_preprocessor=dict(
        mean=[
            127.5,
            127.5,
            127.5,
        ],
        random_erasing=0.0,
        std=[
            127.5,
            127.5,
            127.5,
        ],
        type='ClassificationPreprocessor'),
    encoder=dict(
        arch='vit_tiny_patch16_224',
        img_size=96,
        init_cfg=dict(
            checkpoint='work_dirs/pretrained/vit_start.pth',
            type='Pretrained'),
        out_indices=(11, ),
        type='ViT'),
    freeze=True,
    num_classes=10,
    type='Classifier')
most_broken = 0.05
optim_wrapper = dict(
    constructor='GroupedOptimWrapperConstructor',
    optimizer=dict(fused=True, lr=0.01, type='AdamW', weight_decay=0.0001),
    type='OptimWrapper')
param_scheduler = [
    dict(
        begin=0,
        by_epoch=True,
        convert_to_iter_based=True,
        eta_min=0.0,
        type='CosineAnnealingLR'),
]
randomness = dict(diff_rank_seed=True, seed=0)
save_every = 1
size = 96
test_cfg = dict(k=20, type='KNNTestLoop')
test_dataloader = dict(
    batch_size=64,
    collate_fn=dict(type='mae_toolkit.image_collate'),
    dataset=dict(
        classes='train',
        data_root='data/own/sign_digits',
        pipeline=[
            dict(interpolation='bicubic', size=96, type='Resize'),
            dict(size=96, type='CenterCrop'),
        ],
        split='val',
        type='LabeledDataset'),
    num_workers=0,
    sampler=dict(round_up=False, shuffle=False, type='EpochSampler'))
test_evaluator = dict(
    topk=(
        1,
        5,
    ), type='Accuracy')
train_cfg = dict(max_epochs=10, type='EpochTrainLoop', val_interval=2)
train_dataloader = dict(
    batch_size=64,
    collate_fn=dict(type='mae_toolkit.image_collate'),
    dataset=dict(
        data_root='data/own/sign_digits',
        pipeline=[
            dict(
                interpolation='bicubic',
                scale=(
                    0.6,
                    1.0,
                ),
                size=96,
                type='RandomResizedCrop'),
            dict(prob=0.5, type='RandomFlip'),
        ],
        split='train',
        type='LabeledDataset'),
    drop_last=True,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(shuffle=True, type='EpochSampler'))
val_cfg = dict(type='ValLoop')
val_dataloader = dict(
    batch_size=64,
    collate_fn=dict(type='mae_toolkit.image_collate'),
    dataset=dict(
        classes='train',
        data_root='data/own/sign_digits',
        pipeline=[
            dict(interpolation='bicubic', size=96, type='Resize'),
            dict(size=96, type='CenterCrop'),
        ],
        split='val',
        type='LabeledDataset'),
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
