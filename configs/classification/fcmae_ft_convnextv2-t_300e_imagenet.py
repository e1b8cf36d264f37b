# FCMAE's fine-tuning of ConvNeXt V2-T, every block a layer. Published: 83.0% top-1.
_base_ = './fcmae_ft_convnextv2-b_100e_imagenet.py'

model = dict(
    encoder=dict(
        arch='convnextv2_tiny',
        drop_path_rate=0.2,
        init_cfg=dict(checkpoint='work_dirs/fcmae_convnextv2-t_1600e_imagenet/epoch_1600.pth'),
    )
)
train_cfg = dict(max_epochs=300)
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.9, grouping='block'), optimizer=dict(lr=8e-4 * 1024 / 256))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, begin=0, end=40, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=1e-6 / 3.2e-3, begin=40, by_epoch=True, convert_to_iter_based=True),
]
