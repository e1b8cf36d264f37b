# SparK with ConvNeXt-T for tools/benchmark.py: all levels of the encoder and the whole UNet.
_base_ = '../pretrain/mae/mae_vit-b_800e_imagenet.py'

model = dict(
    encoder=dict(_delete_=True, type='ConvNeXt', arch='convnext_tiny', out_indices=(0, 1, 2, 3)),
    masking=dict(ratio=0.6),
    decoder=dict(_delete_=True, type='UNetDecoder', width=768),
)
