# The short schedule: twice the learning rate, and a cosine instead of the step.
_base_ = './simmim_swin-b_800e_imagenet.py'

train_cfg = dict(max_epochs=100)
optim_wrapper = dict(optimizer=dict(lr=2e-4 * 2048 / 512))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6 / 2e-4, begin=0, end=10, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5 * 2048 / 512, begin=10, by_epoch=True, convert_to_iter_based=True),
]
