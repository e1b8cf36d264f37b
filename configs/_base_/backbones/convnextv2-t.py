# ConvNeXt V2-T for detectors and segmenters, from random weights.
backbone = dict(
    type='mae_toolkit.ConvNeXt',
    arch='convnextv2_tiny',
    out_indices=(0, 1, 2, 3),
    out_norms=True,
    drop_path_rate=0.2,
)
