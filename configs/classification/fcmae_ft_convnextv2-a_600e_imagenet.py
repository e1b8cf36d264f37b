# FCMAE's fine-tuning of ConvNeXt V2-A, without mixing images and without a warm-up. Published: 76.7% top-1.
_base_ = './fcmae_ft_convnextv2-b_100e_imagenet.py'

model = dict(
    data_preprocessor=dict(mixup=None),
    encoder=dict(
        arch='convnextv2_atto',
        drop_path_rate=0.1,
        init_cfg=dict(checkpoint='work_dirs/fcmae_convnextv2-a_1600e_imagenet/epoch_1600.pth'),
    ),
    label_smoothing=0.2,
)
train_cfg = dict(max_epochs=600)
optim_wrapper = dict(
    paramwise_cfg=dict(decay_rate=0.9, grouping='block'), optimizer=dict(lr=2e-4 * 1024 / 256, weight_decay=0.3)
)
param_scheduler = [
    dict(type='CosineAnnealingLR', eta_min_ratio=1e-6 / 8e-4, begin=0, by_epoch=True, convert_to_iter_based=True),
]
