_base_ = './crossmae_vit-b_800e_imagenet.py'

model = dict(encoder=dict(arch='vit_small_patch16_224'), decoder=dict(embed_dim=256, num_heads=8))
