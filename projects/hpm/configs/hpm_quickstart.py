# HPM on the images that come with the repository, small enough for a few minutes on two CPU cores.
_base_ = '../../../configs/pretrain/quickstart.py'

custom_imports = dict(imports=['projects.hpm'], allow_failed_imports=False)

model = dict(
    type='HPM',
    masking=dict(type='HardPatchMasking'),
    loss_decoder=dict(type='TransformerDecoder', embed_dim=96, depth=2, num_heads=4),
)
custom_hooks = [
    dict(type='MaskingScheduleHook', name='hard', values=(0.0, 0.5)),
    dict(type='MomentumHook', momentum=0.99, end_momentum=0.999, ramp=0.5),
]
