_base_ = './hiera_hiera-b_1600e_imagenet.py'

model = dict(encoder=dict(arch='hiera_large_224'))
