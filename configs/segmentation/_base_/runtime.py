# How the training of a segmenter is logged, saved and guarded, in MMSegmentation's scope.
_base_ = '../../_base_/runtime_dense.py'

default_scope = 'mmseg'
env_cfg = dict(cudnn_benchmark=True, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
sync_bn = 'torch'  # where there are several processes
log_processor = dict(by_epoch=False)
visualizer = dict(
    type='SegLocalVisualizer',
    vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')],
)
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=8000), segmentation=dict(type='mae_toolkit.SegmentationHook')
)
