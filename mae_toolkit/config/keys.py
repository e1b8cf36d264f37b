"""Keys that a config may have, and the registries that know the types in it."""

# Where a dict with a "type" may stand, and the registry that knows the type.
PLACES = {
    'train_cfg': 'LOOPS',
    'val_cfg': 'LOOPS',
    'test_cfg': 'LOOPS',
    'optim_wrapper': 'OPTIM_WRAPPERS',
    'param_scheduler': 'PARAM_SCHEDULERS',
    'default_hooks': 'HOOKS',
    'custom_hooks': 'HOOKS',
    'optimizer': 'OPTIMIZERS',
    'dataset': 'DATASETS',
    'datasets': 'DATASETS',
    'pipeline': 'TRANSFORMS',
    'sampler': 'DATA_SAMPLERS',
    'batch_sampler': 'DATA_SAMPLERS',
    'collate_fn': 'FUNCTIONS',
    'vis_backends': 'VISBACKENDS',
    'visualizer': 'VISUALIZERS',
    'log_processor': 'LOG_PROCESSORS',
    'data_preprocessor': 'MODELS',
    'val_evaluator': 'METRICS',
    'test_evaluator': 'METRICS',
}
# Keys of dicts without a type.
PLAIN = {
    'env_cfg': ('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit', 'num_threads'),
    'mp_cfg': ('mp_start_method', 'opencv_num_threads'),
    'dist_cfg': (
        *('backend', 'start_timeout', 'timeout', 'work_timeout', 'silence_timeout'),
        *('init_backend', 'init_method', 'world_size', 'rank', 'group_name', 'device_id'),
    ),
    'auto_scale_lr': ('base_batch_size', 'enable'),
    'randomness': ('seed', 'diff_rank_seed', 'deterministic'),
    'data_check': ('max_left_out',),
}
# What the builders of parts read, besides the parts' own arguments.
EXTRA = {
    'OPTIM_WRAPPERS': ('constructor', 'paramwise_cfg'),
    'PARAM_SCHEDULERS': ('convert_to_iter_based',),
    'HOOKS': ('priority',),
}
LOADER_KEYS = (
    'batch_size num_workers persistent_workers pin_memory prefetch_factor drop_last timeout dataset sampler collate_fn '
    'batch_sampler num_batch_per_epoch worker_init_fn multiprocessing_context'
).split()
# By backend of MMEngine's visualizer: the module that it imports, and the package that has it.
BACKENDS = {
    'WandbVisBackend': ('wandb', 'wandb'),
    'TensorboardVisBackend': ('tensorboard', 'tensorboard'),
    'MLflowVisBackend': ('mlflow', 'mlflow'),
    'ClearMLVisBackend': ('clearml', 'clearml'),
    'NeptuneVisBackend': ('neptune', 'neptune'),
    'DVCLiveVisBackend': ('dvclive', 'dvclive'),
    'AimVisBackend': ('aim', 'aim'),
}
METAINFO = ('classes', 'palette')
MISTYPED = ('loss_scale',)  # annotated wrongly in MMEngine
NEAR = 0.8  # similarity from which an unknown argument of an open signature counts as misspelled
