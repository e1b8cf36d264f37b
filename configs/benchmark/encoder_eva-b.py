# The encoder ViT-B of DINOv3 (timm's class Eva) for tools/benchmark.py.
_base_ = '../pretrain/mae/mae_vit-b_800e_imagenet.py'

model = dict(
    encoder=dict(_delete_=True, type='Eva', arch='vit_base_patch16_dinov3', img_size=224),
    masking=dict(ratio=0.75),
)
