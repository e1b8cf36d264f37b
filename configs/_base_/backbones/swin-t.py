# Swin-T for detectors and segmenters, from random weights. The config that uses it gives img_size.
backbone = dict(
    type='mae_toolkit.Swin',
    arch='swin_tiny_patch4_window7_224',
    window_size=7,
    out_indices=(0, 1, 2, 3),
    out_norms=True,
    final_norm=False,
    drop_path_rate=0.2,
)
