# How a run is logged, saved, guarded and shown in pictures. To leave out one of the hooks, set it to None.
save_every = 1  # epochs between two checkpoints
draw_every = 20  # epochs between two pictures of reconstructions
most_broken = 0.05  # share of the images that may be broken

default_scope = 'mae_toolkit'
env_cfg = dict(cudnn_benchmark=True, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
randomness = dict(seed=0, diff_rank_seed=True)
log_level = 'INFO'
log_processor = dict(
    type='LogProcessor',
    window_size=10,
    by_epoch=True,
    log_with_hierarchy=True,
    mean_pattern=r'^(?!(val|test)/).*(loss|time|grad_norm).*',  # MMEngine would average validations as well
)
visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')])

default_hooks = dict(
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    checkpoint=dict(type='SafeCheckpointHook', interval=save_every, max_keep_ckpts=3),
    iteration_seed=dict(type='IterationSeedHook'),
    nan_guard=dict(type='NaNGuardHook', action='stop'),
    broken_images=dict(type='BrokenImagesHook', max_share=most_broken),
    progress=dict(type='ProgressHook'),
    loss_curve=dict(type='LossCurveHook'),
    reconstruction=dict(type='ReconstructionHook', interval=draw_every),
    batch_norm_statistics=dict(type='BatchNormStatisticsHook'),  # does nothing without batch norms in the encoder
)
