import os

_base_ = './faster-rcnn_convnextv2-a_500s_bccd.py'
data_root = os.environ['CASE_ROOT'] + '/'
scale = (96, 64)
images = dict(data_root=data_root, data_prefix=dict(img='images/'), metainfo=dict(classes=('red', 'blue')))
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False, dataset=dict(ann_file='train.json', **images)
)
val_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(ann_file='val.json', **images))
test_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(ann_file='val.json', **images))
val_evaluator = dict(ann_file=data_root + 'val.json')
test_evaluator = dict(ann_file=data_root + 'val.json')
model = dict(
    roi_head=dict(bbox_head=dict(num_classes=2)),
    test_cfg=dict(rpn=dict(nms_pre=50, max_per_img=20), rcnn=dict(score_thr=0.0, max_per_img=10)),
)
train_cfg = dict(max_iters=4, val_interval=4)
param_scheduler = [dict(type='ConstantLR', factor=1.0, by_epoch=False, begin=0, end=4)]
default_hooks = dict(checkpoint=dict(interval=4), logger=dict(interval=1))
env_cfg = dict(num_threads=1)
