import os

_base_ = './fcn_convnextv2-a_500s_dsb2018.py'
scale = (80, 64)
_v = os.environ.get('CASE_KW', '')
images = dict(
    data_root=os.environ['CASE_ROOT'] + '/',
    data_prefix=dict(img_path='images', seg_map_path='labels'),
    metainfo=dict(classes=('grey', 'red', 'blue'), palette=[[90, 90, 90], [200, 40, 40], [40, 40, 200]]),
)
if 'reduce' in _v:
    images['reduce_zero_label'] = True
pipe = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=scale, ratio_range=(0.75, 1.25), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(64, 64)),
    dict(type='RandomFlip', prob=0.5, direction=['horizontal', 'vertical']),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False, dataset=dict(ann_file='train.txt', pipeline=pipe, **images)
)
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(ann_file='val.txt', **images))
test_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(ann_file='val.txt', **images))
model = dict(
    backbone=dict(init_cfg=None), data_preprocessor=dict(size=(64, 64)), decode_head=dict(num_classes=3, out_channels=3)
)
train_cfg = dict(max_iters=4, val_interval=4)
param_scheduler = [dict(type='ConstantLR', factor=1.0, by_epoch=False, begin=0, end=4)]
default_hooks = dict(checkpoint=dict(interval=4), logger=dict(interval=1))
env_cfg = dict(num_threads=1)
