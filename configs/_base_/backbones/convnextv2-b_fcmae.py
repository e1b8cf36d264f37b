# ConvNeXt V2-B for detectors and segmenters, pretrained by FCMAE.
backbone = dict(
    type='mae_toolkit.ConvNeXt',
    arch='convnextv2_base',
    out_indices=(0, 1, 2, 3),
    out_norms=True,
    drop_path_rate=0.4,
    init_cfg=dict(
        type='Pretrained', checkpoint='work_dirs/fcmae_convnextv2-b_1600e_imagenet/epoch_1600.pth', prefix='encoder'
    ),
)
