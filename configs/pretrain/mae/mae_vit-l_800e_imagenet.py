_base_ = './mae_vit-b_800e_imagenet.py'

model = dict(encoder=dict(arch='vit_large_patch16_224'))
