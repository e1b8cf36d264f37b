auto_scale_lr = dict(base_batch_size=4)
crop = (
    96,
    96,
)
data_root = 'data/own/dsb2018/'
default_hooks = dict(
    checkpoint=dict(
        by_epoch=False,
        interval=250,
        max_keep_ckpts=1,
        type='mae_toolkit.SafeCheckpointHook'),
    iteration_seed=dict(type='mae_toolkit.IterationSeedHook'),
    logger=dict(interval=20, log_metric_by_epoch=False, type='LoggerHook'),
    loss_curve=dict(type='mae_toolkit.LossCurveHook'),
    nan_guard=dict(action='stop', type='mae_toolkit.NaNGuardHook'),
    progress=dict(type='mae_toolkit.ProgressHook'),
    segmentation=dict(type='mae_toolkit.SegmentationHook'))
default_scope = 'mmseg'
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
held_out = dict(
    data_prefix=dict(img_path='images', seg_map_path='semantic'),
    data_root='data/own/dsb2018/',
    metainfo=dict(
        classes=(
            'background',
            'nucleus',
        ),
        palette=[
            [
                0,
                0,
                0,
            ],
            [
                255,
                255,
                255,
            ],
        ]),
    pipeline=[
        dict(type='LoadImageFromFile'),
        dict(keep_ratio=True, scale=(
            192,
            192,
        ), type='Resize'),
        dict(type='LoadAnnotations'),
        dict(type='PackSegInputs'),
    ],
    test_mode=True,
    type='BaseSegDataset')
images = dict(
    data_prefix=dict(img_path='images', seg_map_path='semantic'),
    data_root='data/own/dsb2018/',
    metainfo=dict(
        classes=(
            'background',
            'nucleus',
        ),
        palette=[
            [
                0,
                0,
                0,
            ],
            [
                255,
                255,
                255,
            ],
        ]),
    type='BaseSegDataset')
log_level = 'INFO'
log_processor = dict(
    by_epoch=False,
    log_with_hierarchy=True,
    mean_pattern='^(?!(val|test)/).*(loss|time|grad_norm).*',
    type='LogProcessor',
    window_size=50)
model = dict(
    backbone=dict(
        arch='tf_efficientnet_lite0',
        init_cfg=None,
        out_indices=(
            1,
            2,
            3,
            4,
        ),
        type='mae_toolkit.SparseCNN'),
    data_preprocessor=dict(
        bgr_to_rgb=True,
        mean=[
            127.5,
            127.5,
            127.5,
        ],
        seg_pad_val=255,
        size=(
            96,
            96,
        ),
        std=[
            127.5,
            127.5,
            127.5,
        ],
        type='SegDataPreProcessor'),
    decode_head=dict(
        channels=64,
        concat_input=False,
        dropout_ratio=0.1,
        in_channels=[
            24,
            40,
            112,
            320,
        ],
        in_index=[
            0,
            1,
            2,
            3,
        ],
        input_transform='resize_concat',
        kernel_size=1,
        loss_decode=dict(
            avg_non_ignore=True, type='CrossEntropyLoss', use_sigmoid=True),
        norm_cfg=dict(type='BN'),
        num_classes=2,
        num_convs=1,
        out_channels=1,
        threshold=0.3,
        type='FCNHead'),
    test_cfg=dict(mode='whole'),
    type='EncoderDecoder')
optim_wrapper = dict(
    clip_grad=dict(max_norm=5.0),
    constructor='mae_toolkit.LayerDecayOptimWrapperConstructor',
    optimizer=dict(
        betas=(
            0.9,
            0.999,
        ),
        fused=True,
        lr=0.001,
        type='AdamW',
        weight_decay=0.05),
    paramwise_cfg=dict(decay_rate=0.8),
    type='OptimWrapper')
param_scheduler = [
    dict(begin=0, by_epoch=False, end=50, start_factor=0.01, type='LinearLR'),
    dict(begin=50, by_epoch=False, eta_min=0.0, type='CosineAnnealingLR'),
]
randomness = dict(diff_rank_seed=True, seed=0)
scale = (
    192,
    192,
)
sync_bn = 'torch'
test_cfg = dict(type='TestLoop')
test_dataloader = dict(
    batch_size=1,
    dataset=dict(
        ann_file='splits/test.txt',
        data_prefix=dict(img_path='images', seg_map_path='semantic'),
        data_root='data/own/dsb2018/',
        metainfo=dict(
            classes=(
                'background',
                'nucleus',
            ),
            palette=[
                [
                    0,
                    0,
                    0,
                ],
                [
                    255,
                    255,
                    255,
                ],
            ]),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(keep_ratio=True, scale=(
                192,
                192,
            ), type='Resize'),
            dict(type='LoadAnnotations'),
            dict(type='PackSegInputs'),
        ],
        test_mode=True,
        type='BaseSegDataset'),
    num_workers=1,
    sampler=dict(shuffle=False, type='DefaultSampler'))
test_evaluator = dict(
    iou_metrics=[
        'mIoU',
        'mDice',
    ], type='IoUMetric')
train_cfg = dict(max_iters=600, type='IterBasedTrainLoop', val_interval=100)
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        ann_file='splits/train.txt',
        data_prefix=dict(img_path='images', seg_map_path='semantic'),
        data_root='data/own/dsb2018/',
        metainfo=dict(
            classes=(
                'background',
                'nucleus',
            ),
            palette=[
                [
                    0,
                    0,
                    0,
                ],
                [
                    255,
                    255,
                    255,
                ],
            ]),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
            dict(
                keep_ratio=True,
                ratio_range=(
                    0.75,
                    1.25,
                ),
                scale=(
                    192,
                    192,
                ),
                type='RandomResize'),
            dict(crop_size=(
                96,
                96,
            ), type='RandomCrop'),
            dict(
                direction=[
                    'horizontal',
                    'vertical',
                ],
                prob=0.5,
                type='RandomFlip'),
            dict(type='PackSegInputs'),
        ],
        type='BaseSegDataset'),
    num_workers=1,
    persistent_workers=True,
    sampler=dict(shuffle=True, type='InfiniteSampler'))
val_cfg = dict(type='ValLoop')
val_dataloader = dict(
    batch_size=1,
    dataset=dict(
        ann_file='splits/val.txt',
        data_prefix=dict(img_path='images', seg_map_path='semantic'),
        data_root='data/own/dsb2018/',
        metainfo=dict(
            classes=(
                'background',
                'nucleus',
            ),
            palette=[
                [
                    0,
                    0,
                    0,
                ],
                [
                    255,
                    255,
                    255,
                ],
            ]),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(keep_ratio=True, scale=(
                192,
                192,
            ), type='Resize'),
            dict(type='LoadAnnotations'),
            dict(type='PackSegInputs'),
        ],
        test_mode=True,
        type='BaseSegDataset'),
    num_workers=1,
    persistent_workers=True,
    sampler=dict(shuffle=False, type='DefaultSampler'))
val_evaluator = dict(
    iou_metrics=[
        'mIoU',
        'mDice',
    ], type='IoUMetric')
visualizer = dict(
    type='SegLocalVisualizer',
    vis_backends=[
        dict(type='LocalVisBackend'),
        dict(type='TensorboardVisBackend'),
    ])
