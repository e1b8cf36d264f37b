# How a detector's training goes on, in MMDetection's scope: its hooks and ours, which carry our scope in their names.
default_scope = 'mmdet'
env_cfg = dict(cudnn_benchmark=False, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
randomness = dict(seed=0, diff_rank_seed=True)
log_level = 'INFO'
log_processor = dict(
    type='LogProcessor',
    window_size=50,
    by_epoch=True,
    log_with_hierarchy=True,
    mean_pattern=r'^(?!(val|test)/).*(loss|time|grad_norm).*',
)
visualizer = dict(
    type='DetLocalVisualizer',
    vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')],
)
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    checkpoint=dict(type='mae_toolkit.SafeCheckpointHook', interval=1, max_keep_ckpts=3),
    iteration_seed=dict(type='mae_toolkit.IterationSeedHook'),
    nan_guard=dict(type='mae_toolkit.NaNGuardHook', action='stop'),
    detection=dict(type='mae_toolkit.DetectionHook'),
    progress=dict(type='mae_toolkit.ProgressHook'),
    loss_curve=dict(type='mae_toolkit.LossCurveHook'),
)
