# Hiera's fine-tuning of Hiera-H. Published: 86.9% top-1.
_base_ = './hiera_ft_hiera-b_100e_imagenet.py'

model = dict(
    encoder=dict(
        arch='hiera_huge_224',
        drop_path_rate=0.3,
        init_cfg=dict(checkpoint='work_dirs/hiera_hiera-h_1600e_imagenet/epoch_1600.pth'),
    )
)
train_cfg = dict(max_epochs=50)
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.85), optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, begin=0, end=5, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=1e-6 / 1e-3, begin=5, by_epoch=True, convert_to_iter_based=True),
]
