# ResNet-50 for detectors and segmenters, pretrained by SparK.
backbone = dict(
    type='mae_toolkit.SparseCNN',
    arch='resnet50',
    out_indices=(1, 2, 3, 4),
    init_cfg=dict(
        type='Pretrained', checkpoint='work_dirs/spark_resnet-50_1600e_imagenet/epoch_1600.pth', prefix='encoder'
    ),
)
