# SparK's fine-tuning of ConvNeXt-S. Published: 84.1% top-1.
_base_ = './spark_ft_convnext-b_400e_imagenet.py'

model = dict(
    encoder=dict(
        arch='convnext_small',
        drop_path_rate=0.3,
        init_cfg=dict(checkpoint='work_dirs/spark_convnext-s_1600e_imagenet/epoch_1600.pth'),
    )
)
optim_wrapper = dict(optimizer=dict(lr=2e-4 * 4096 / 256))
