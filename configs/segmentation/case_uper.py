import os

_base_ = './upernet_convnextv2-a_500s_dsb2018.py'
scale = (80, 64)
images = dict(
    data_root=os.environ['CASE_ROOT'] + '/',
    data_prefix=dict(img_path='images', seg_map_path='labels'),
    metainfo=dict(classes=('grey', 'red', 'blue'), palette=[[90, 90, 90], [200, 40, 40], [40, 40, 200]]),
)
train_dataloader = dict(
    batch_size=1, num_workers=0, persistent_workers=False, dataset=dict(ann_file='train.txt', **images)
)
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(ann_file='val.txt', **images))
test_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(ann_file='val.txt', **images))
model = dict(decode_head=dict(num_classes=3, out_channels=3))
train_cfg = dict(max_iters=2, val_interval=2)
param_scheduler = [dict(type='ConstantLR', factor=1.0, by_epoch=False, begin=0, end=4)]
default_hooks = dict(checkpoint=dict(interval=4), logger=dict(interval=1))
env_cfg = dict(num_threads=1)
