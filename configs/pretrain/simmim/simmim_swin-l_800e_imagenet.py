_base_ = './simmim_swin-b_800e_imagenet.py'

model = dict(encoder=dict(arch='swin_large_patch4_window7_224', window_size=12))
