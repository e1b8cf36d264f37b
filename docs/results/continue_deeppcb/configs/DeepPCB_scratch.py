auto_scale_lr = dict(base_batch_size=4)
classes = (
    'open',
    'short',
    'mousebite',
    'spur',
    'copper',
    'pin-hole',
)
crop = (
    160,
    160,
)
data_root = 'data/unseen/deeppcb/'
default_hooks = dict(
    checkpoint=dict(
        by_epoch=False,
        interval=250,
        max_keep_ckpts=1,
        type='mae_toolkit.SafeCheckpointHook'),
    detection=dict(type='mae_toolkit.DetectionHook'),
    iteration_seed=dict(type='mae_toolkit.IterationSeedHook'),
    logger=dict(interval=20, log_metric_by_epoch=False, type='LoggerHook'),
    loss_curve=dict(type='mae_toolkit.LossCurveHook'),
    nan_guard=dict(action='stop', type='mae_toolkit.NaNGuardHook'),
    progress=dict(type='mae_toolkit.ProgressHook'))
default_scope = 'mmdet'
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
held_out = dict(
    data_root='data/unseen/deeppcb/',
    metainfo=dict(
        classes=(
            'open',
            'short',
            'mousebite',
            'spur',
            'copper',
            'pin-hole',
        )),
    pipeline=[
        dict(type='LoadImageFromFile'),
        dict(keep_ratio=True, scale=(
            320,
            320,
        ), type='Resize'),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(
            meta_keys=(
                'img_id',
                'img_path',
                'ori_shape',
                'img_shape',
                'scale_factor',
            ),
            type='PackDetInputs'),
    ])
images = dict(
    data_root='data/unseen/deeppcb/',
    metainfo=dict(
        classes=(
            'open',
            'short',
            'mousebite',
            'spur',
            'copper',
            'pin-hole',
        )))
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
            2,
            3,
            4,
        ),
        type='mae_toolkit.SparseCNN'),
    bbox_head=dict(
        anchor_generator=dict(
            octave_base_scale=2,
            ratios=[
                0.5,
                1.0,
                2.0,
            ],
            scales_per_octave=3,
            strides=[
                8,
                16,
                32,
                64,
                128,
            ],
            type='AnchorGenerator'),
        bbox_coder=dict(
            target_means=[
                0.0,
                0.0,
                0.0,
                0.0,
            ],
            target_stds=[
                1.0,
                1.0,
                1.0,
                1.0,
            ],
            type='DeltaXYWHBBoxCoder'),
        feat_channels=64,
        in_channels=64,
        loss_bbox=dict(type='L1Loss'),
        loss_cls=dict(
            alpha=0.25, gamma=2.0, type='FocalLoss', use_sigmoid=True),
        num_classes=6,
        stacked_convs=2,
        type='RetinaHead'),
    data_preprocessor=dict(
        bgr_to_rgb=True,
        mean=[
            127.5,
            127.5,
            127.5,
        ],
        pad_size_divisor=32,
        std=[
            127.5,
            127.5,
            127.5,
        ],
        type='DetDataPreprocessor'),
    neck=dict(
        add_extra_convs='on_input',
        in_channels=[
            40,
            112,
            320,
        ],
        num_outs=5,
        out_channels=64,
        type='FPN'),
    test_cfg=dict(
        max_per_img=100,
        min_bbox_size=0,
        nms=dict(iou_threshold=0.5, type='nms'),
        nms_pre=1000,
        score_thr=0.05),
    train_cfg=dict(
        allowed_border=-1,
        assigner=dict(
            min_pos_iou=0,
            neg_iou_thr=0.4,
            pos_iou_thr=0.5,
            type='MaxIoUAssigner'),
        debug=False,
        pos_weight=-1,
        sampler=dict(type='PseudoSampler')),
    type='RetinaNet')
optim_wrapper = dict(
    clip_grad=dict(max_norm=5.0),
    constructor='mae_toolkit.GroupedOptimWrapperConstructor',
    optimizer=dict(
        betas=(
            0.9,
            0.999,
        ),
        fused=True,
        lr=0.001,
        type='AdamW',
        weight_decay=0.05),
    type='OptimWrapper')
pack = dict(
    meta_keys=(
        'img_id',
        'img_path',
        'ori_shape',
        'img_shape',
        'scale_factor',
    ),
    type='PackDetInputs')
param_scheduler = [
    dict(begin=0, by_epoch=False, end=50, start_factor=0.01, type='LinearLR'),
    dict(begin=50, by_epoch=False, eta_min=0.0, type='CosineAnnealingLR'),
]
randomness = dict(diff_rank_seed=True, seed=0)
scale = (
    320,
    320,
)
steps = 500
test_cfg = dict(type='TestLoop')
test_dataloader = dict(
    batch_size=4,
    dataset=dict(
        ann_file='annotations/test.json',
        data_prefix=dict(img='images/'),
        data_root='data/unseen/deeppcb/',
        metainfo=dict(
            classes=(
                'open',
                'short',
                'mousebite',
                'spur',
                'copper',
                'pin-hole',
            )),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(keep_ratio=True, scale=(
                320,
                320,
            ), type='Resize'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(
                meta_keys=(
                    'img_id',
                    'img_path',
                    'ori_shape',
                    'img_shape',
                    'scale_factor',
                ),
                type='PackDetInputs'),
        ],
        test_mode=True,
        type='CocoDataset'),
    num_workers=1,
    sampler=dict(shuffle=False, type='DefaultSampler'))
test_evaluator = dict(
    ann_file='data/unseen/deeppcb/annotations/test.json',
    metric='bbox',
    type='CocoMetric')
train_cfg = dict(max_iters=600, type='IterBasedTrainLoop', val_interval=100)
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        ann_file='annotations/train.json',
        data_prefix=dict(img='images/'),
        data_root='data/unseen/deeppcb/',
        metainfo=dict(
            classes=(
                'open',
                'short',
                'mousebite',
                'spur',
                'copper',
                'pin-hole',
            )),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(
                keep_ratio=True,
                ratio_range=(
                    0.75,
                    1.25,
                ),
                scale=(
                    320,
                    320,
                ),
                type='RandomResize'),
            dict(
                allow_negative_crop=True,
                crop_size=(
                    160,
                    160,
                ),
                type='RandomCrop'),
            dict(
                direction=[
                    'horizontal',
                    'vertical',
                ],
                prob=0.5,
                type='RandomFlip'),
            dict(type='PackDetInputs'),
        ],
        type='CocoDataset'),
    num_workers=1,
    persistent_workers=True,
    sampler=dict(shuffle=True, type='InfiniteSampler'))
val_cfg = dict(type='ValLoop')
val_dataloader = dict(
    batch_size=4,
    dataset=dict(
        ann_file='annotations/val.json',
        data_prefix=dict(img='images/'),
        data_root='data/unseen/deeppcb/',
        metainfo=dict(
            classes=(
                'open',
                'short',
                'mousebite',
                'spur',
                'copper',
                'pin-hole',
            )),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(keep_ratio=True, scale=(
                320,
                320,
            ), type='Resize'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(
                meta_keys=(
                    'img_id',
                    'img_path',
                    'ori_shape',
                    'img_shape',
                    'scale_factor',
                ),
                type='PackDetInputs'),
        ],
        test_mode=True,
        type='CocoDataset'),
    num_workers=1,
    sampler=dict(shuffle=False, type='DefaultSampler'))
val_evaluator = dict(
    ann_file='data/unseen/deeppcb/annotations/val.json',
    metric='bbox',
    type='CocoMetric')
visualizer = dict(
    type='DetLocalVisualizer',
    vis_backends=[
        dict(type='LocalVisBackend'),
        dict(type='TensorboardVisBackend'),
    ])
warmup = 50
