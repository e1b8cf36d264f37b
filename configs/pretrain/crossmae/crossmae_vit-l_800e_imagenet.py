_base_ = './crossmae_vit-b_800e_imagenet.py'

model = dict(encoder=dict(arch='vit_large_patch16_224', out_indices=(-1, *range(24))))
