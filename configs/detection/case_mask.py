import os

_base_ = './mask-rcnn_convnextv2-a_500s_dsb2018.py'
data_root = os.environ['CASE_ROOT'] + '/'
scale = (96, 64)
images = dict(data_root=data_root, data_prefix=dict(img='images/'), metainfo=dict(classes=('red', 'blue')))
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        ann_file='train.json',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(type='RandomResize', scale=scale, ratio_range=(0.75, 1.25), keep_ratio=True),
            dict(type='RandomCrop', crop_size=(64, 64), allow_negative_crop=True, recompute_bbox=True),
            dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1), keep_empty=False),
            dict(type='RandomFlip', prob=0.5, direction=['horizontal', 'vertical']),
            dict(type='PackDetInputs'),
        ],
        **images,
    ),
)
val_pipe = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
val_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(ann_file='val.json', pipeline=val_pipe, **images))
test_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(ann_file='val.json', pipeline=val_pipe, **images))
val_evaluator = dict(ann_file=data_root + 'val.json')
test_evaluator = dict(ann_file=data_root + 'val.json')
model = dict(
    backbone=dict(init_cfg=None),
    roi_head=dict(bbox_head=dict(num_classes=2), mask_head=dict(num_classes=2)),
    test_cfg=dict(rpn=dict(nms_pre=50, max_per_img=20), rcnn=dict(score_thr=0.0, max_per_img=10)),
)
train_cfg = dict(max_iters=4, val_interval=4)
param_scheduler = [dict(type='ConstantLR', factor=1.0, by_epoch=False, begin=0, end=4)]
default_hooks = dict(checkpoint=dict(interval=4), logger=dict(interval=1))
env_cfg = dict(num_threads=1)
