# The runtime of segmenters for a few hundred steps.
_base_ = './runtime.py'

default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=250, max_keep_ckpts=1))
