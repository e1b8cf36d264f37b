# ConvNeXt V2-A for detectors and segmenters: the maps of all four stages, normalized.
backbone = dict(type='mae_toolkit.ConvNeXt', arch='convnextv2_atto', out_indices=(0, 1, 2, 3), out_norms=True)
