# Swin-L with windows of 14: 2048 images per step, for example 32 processes of 64.
_base_ = './greenmim_swin-b_800e_imagenet.py'

model = dict(encoder=dict(arch='swin_large_patch4_window7_224', window_size=14))
auto_scale_lr = dict(base_batch_size=2048)
optim_wrapper = dict(optimizer=dict(lr=1e-4 * 2048 / 256))
