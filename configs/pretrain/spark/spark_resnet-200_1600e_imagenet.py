_base_ = './spark_resnet-50_1600e_imagenet.py'

model = dict(encoder=dict(arch='resnet200', drop_path_rate=0.15))
