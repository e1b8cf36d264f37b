# How the training of a detector or a segmenter is logged, saved and guarded. Its hooks are found in the scope of
# MMDetection or MMSegmentation, so ours carry their own scope in their names.
randomness = dict(seed=0, diff_rank_seed=True)
log_level = 'INFO'
log_processor = dict(
    type='LogProcessor',
    window_size=50,
    log_with_hierarchy=True,
    mean_pattern=r'^(?!(val|test)/).*(loss|time|grad_norm).*',
)
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    checkpoint=dict(type='mae_toolkit.SafeCheckpointHook', max_keep_ckpts=3),
    iteration_seed=dict(type='mae_toolkit.IterationSeedHook'),
    nan_guard=dict(type='mae_toolkit.NaNGuardHook', action='stop'),
    progress=dict(type='mae_toolkit.ProgressHook'),
    loss_curve=dict(type='mae_toolkit.LossCurveHook'),
)
