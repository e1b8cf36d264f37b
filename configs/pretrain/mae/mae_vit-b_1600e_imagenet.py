_base_ = './mae_vit-b_800e_imagenet.py'

train_cfg = dict(max_epochs=1600)
