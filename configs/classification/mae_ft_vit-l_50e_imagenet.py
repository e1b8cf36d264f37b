# MAE's fine-tuning of ViT-L. Published: 85.9% top-1.
_base_ = './mae_ft_vit-b_100e_imagenet.py'

model = dict(
    encoder=dict(
        arch='vit_large_patch16_224',
        drop_path_rate=0.2,
        init_cfg=dict(checkpoint='work_dirs/mae_vit-l_1600e_imagenet/epoch_1600.pth'),
    )
)
train_cfg = dict(max_epochs=50)
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.75), optimizer=dict(lr=1e-3 * 1024 / 256))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, begin=0, end=5, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=1e-6 / 4e-3, begin=5, by_epoch=True, convert_to_iter_based=True),
]
