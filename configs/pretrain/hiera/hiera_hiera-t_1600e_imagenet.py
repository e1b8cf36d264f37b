_base_ = './hiera_hiera-b_1600e_imagenet.py'

model = dict(encoder=dict(arch='hiera_tiny_224', drop_path_rate=0.0))
