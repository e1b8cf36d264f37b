# MAE's linear probe of ViT-H. Published: 77.2% top-1.
_base_ = './mae_lin_vit-b_90e_imagenet.py'

model = dict(
    encoder=dict(
        arch='vit_huge_patch14_224',
        init_cfg=dict(checkpoint='work_dirs/mae_vit-h_1600e_imagenet/epoch_1600.pth'),
    )
)
train_cfg = dict(max_epochs=50)
