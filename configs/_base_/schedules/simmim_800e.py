# SimMIM (arXiv:2111.09886, appendix A.1, and the official configs): base learning rate 1e-4 for 512 images, batch 2048.
_base_ = './mae_800e.py'

auto_scale_lr = dict(base_batch_size=2048)
optim_wrapper = dict(
    paramwise_cfg=dict(no_weight_decay=True),  # tables of relative positions and tokens are not decayed
    clip_grad=dict(max_norm=5.0),
    optimizer=dict(lr=1e-4 * 2048 / 512, betas=(0.9, 0.999), eps=1e-8),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=5e-7 / 1e-4, begin=0, end=10, by_epoch=True, convert_to_iter_based=True),
    dict(type='MultiStepLR', milestones=[700], gamma=0.1, by_epoch=True, convert_to_iter_based=True),
]
