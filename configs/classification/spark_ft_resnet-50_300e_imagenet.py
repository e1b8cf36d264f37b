# SparK's fine-tuning of ResNet-50: LAMB, and a binary cross-entropy per class. Published: 80.6% top-1.
_base_ = './spark_ft_convnext-b_400e_imagenet.py'

model = dict(
    data_preprocessor=dict(mixup=dict(mixup_alpha=0.1)),
    encoder=dict(
        _delete_=True,
        type='SparseCNN',
        arch='resnet50',
        sync_bn=True,
        drop_path_rate=0.05,
        init_cfg=dict(
            type='Pretrained', checkpoint='work_dirs/spark_resnet-50_1600e_imagenet/epoch_1600.pth', prefix='encoder'
        ),
    ),
    head_norm=False,
    loss='binary',
)
train_cfg = dict(max_epochs=300)
optim_wrapper = dict(
    optimizer=dict(
        _delete_=True,
        type='Lamb',
        lr=2e-3 * 4096 / 256,
        weight_decay=0.02,
        max_grad_norm=1e7,
        always_adapt=True,
        bias_correction=False,
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.005, begin=0, end=5, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.001, begin=5, by_epoch=True, convert_to_iter_based=True),
]
