# The encoder Hiera-B for tools/benchmark.py.
_base_ = '../pretrain/mae/mae_vit-b_800e_imagenet.py'

model = dict(
    encoder=dict(_delete_=True, type='Hiera', arch='hiera_base_224', img_size=224, q_pool=2),
    masking=dict(ratio=0.6),
)
