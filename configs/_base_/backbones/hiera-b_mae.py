# Hiera-B for detectors and segmenters, pretrained as a masked autoencoder. The config that uses it gives img_size.
backbone = dict(
    type='mae_toolkit.Hiera',
    arch='hiera_base_224',
    out_indices=(0, 1, 2, 3),
    out_norms=True,
    drop_path_rate=0.2,
    init_cfg=dict(
        type='Pretrained', checkpoint='work_dirs/hiera_hiera-b_1600e_imagenet/epoch_1600.pth', prefix='encoder'
    ),
)
