# MAE's linear probe of ViT-L. Published: 76.0% top-1.
_base_ = './mae_lin_vit-b_90e_imagenet.py'

model = dict(
    encoder=dict(
        arch='vit_large_patch16_224',
        init_cfg=dict(checkpoint='work_dirs/mae_vit-l_1600e_imagenet/epoch_1600.pth'),
    )
)
train_cfg = dict(max_epochs=50)
