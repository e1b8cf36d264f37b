# Swin-B for detectors and segmenters, pretrained by SimMIM. The config that uses it gives img_size.
backbone = dict(
    type='mae_toolkit.Swin',
    arch='swin_base_patch4_window7_224',
    window_size=7,
    out_indices=(0, 1, 2, 3),
    out_norms=True,
    final_norm=False,
    drop_path_rate=0.3,
    init_cfg=dict(
        type='Pretrained', checkpoint='work_dirs/simmim_swin-b_800e_imagenet/epoch_800.pth', prefix='encoder'
    ),
)
