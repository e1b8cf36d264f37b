# The encoder ResNet-50 for tools/benchmark.py.
_base_ = '../pretrain/mae/mae_vit-b_800e_imagenet.py'

model = dict(
    encoder=dict(_delete_=True, type='SparseCNN', arch='resnet50'),
    masking=dict(ratio=0.6),
)
