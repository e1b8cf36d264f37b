# How a segmenter's training goes on, in MMSegmentation's scope: its hooks and ours, which carry our scope in their
# names.
default_scope = 'mmseg'
env_cfg = dict(cudnn_benchmark=True, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
randomness = dict(seed=0, diff_rank_seed=True)
sync_bn = 'torch'  # where there are several processes
log_level = 'INFO'
log_processor = dict(
    type='LogProcessor',
    window_size=50,
    by_epoch=False,
    log_with_hierarchy=True,
    mean_pattern=r'^(?!(val|test)/).*(loss|time|grad_norm).*',
)
visualizer = dict(
    type='SegLocalVisualizer',
    vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')],
)
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    checkpoint=dict(type='mae_toolkit.SafeCheckpointHook', by_epoch=False, interval=8000, max_keep_ckpts=3),
    iteration_seed=dict(type='mae_toolkit.IterationSeedHook'),
    nan_guard=dict(type='mae_toolkit.NaNGuardHook', action='stop'),
    segmentation=dict(type='mae_toolkit.SegmentationHook'),
    progress=dict(type='mae_toolkit.ProgressHook'),
    loss_curve=dict(type='mae_toolkit.LossCurveHook'),
)
