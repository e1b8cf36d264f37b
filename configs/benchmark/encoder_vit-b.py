# The encoder ViT-B for tools/benchmark.py.
_base_ = '../pretrain/mae/mae_vit-b_800e_imagenet.py'

model = dict(masking=dict(ratio=0.75))
