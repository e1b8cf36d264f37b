# The runtime of classifiers: nothing is reconstructed, and the checkpoint that classifies best is kept, too.
_base_ = './runtime.py'

default_hooks = dict(
    checkpoint=dict(save_best='accuracy/top1', rule='greater'),
    reconstruction=None,
    batch_norm_statistics=None,
)
