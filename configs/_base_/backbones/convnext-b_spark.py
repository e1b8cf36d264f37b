# ConvNeXt-B for detectors and segmenters, pretrained by SparK.
backbone = dict(
    type='mae_toolkit.ConvNeXt',
    arch='convnext_base',
    out_indices=(0, 1, 2, 3),
    out_norms=True,
    drop_path_rate=0.4,
    init_cfg=dict(
        type='Pretrained', checkpoint='work_dirs/spark_convnext-b_1600e_imagenet/epoch_1600.pth', prefix='encoder'
    ),
)
