# The encoder ConvNeXt-T for tools/benchmark.py.
_base_ = '../pretrain/mae/mae_vit-b_800e_imagenet.py'

model = dict(
    encoder=dict(_delete_=True, type='ConvNeXt', arch='convnext_tiny'),
    masking=dict(ratio=0.6),
)
