# SimMIM's fine-tuning of Swin-L, with windows of 14 tokens. Published: 85.4% top-1.
_base_ = './simmim_ft_swin-b_100e_imagenet.py'

model = dict(
    encoder=dict(
        arch='swin_large_patch4_window7_224',
        window_size=14,
        drop_path_rate=0.2,
        init_cfg=dict(checkpoint='work_dirs/simmim_swin-l_800e_imagenet/epoch_800.pth'),
    )
)
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.7))
