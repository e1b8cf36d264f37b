# How the training of a detector is logged, saved and guarded, in MMDetection's scope.
_base_ = '../../_base_/runtime_dense.py'

default_scope = 'mmdet'
env_cfg = dict(cudnn_benchmark=False, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
log_processor = dict(by_epoch=True)
visualizer = dict(
    type='DetLocalVisualizer',
    vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')],
)
default_hooks = dict(checkpoint=dict(interval=1), detection=dict(type='mae_toolkit.DetectionHook'))
