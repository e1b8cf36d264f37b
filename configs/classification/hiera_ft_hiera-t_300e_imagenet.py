# Hiera's fine-tuning of Hiera-T. Published: 82.8% top-1.
_base_ = './hiera_ft_hiera-b_100e_imagenet.py'

model = dict(
    encoder=dict(
        arch='hiera_tiny_224',
        init_cfg=dict(checkpoint='work_dirs/hiera_hiera-t_1600e_imagenet/epoch_1600.pth'),
    )
)
train_cfg = dict(max_epochs=300)
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.65))
