_base_ = './greenmim_swin-b_800e_imagenet.py'

train_cfg = dict(max_epochs=200)
