encoder = dict(type='ConvNeXt', arch='convnextv2_base')
