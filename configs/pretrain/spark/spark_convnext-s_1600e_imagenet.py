_base_ = './spark_convnext-b_1600e_imagenet.py'

model = dict(encoder=dict(arch='convnext_small', drop_path_rate=0.2))
