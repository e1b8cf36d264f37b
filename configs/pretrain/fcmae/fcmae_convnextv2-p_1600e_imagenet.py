_base_ = './fcmae_convnextv2-b_1600e_imagenet.py'

model = dict(encoder=dict(arch='convnextv2_pico'))
