# All four stages of a ConvNeXt-B.
encoder = dict(type='ConvNeXt', arch='convnext_base', out_indices=(0, 1, 2, 3), drop_path_rate=0.3)
