# The encoder Swin-B for tools/benchmark.py, visible tokens only.
_base_ = '../pretrain/mae/mae_vit-b_800e_imagenet.py'

model = dict(
    encoder=dict(_delete_=True, type='Swin', arch='swin_base_patch4_window7_224', img_size=224),
    masking=dict(ratio=0.75),
)
