_base_ = './mae_vit-b_800e_imagenet.py'

model = dict(encoder=dict(arch='vit_huge_patch14_224'))
