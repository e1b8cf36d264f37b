# A small set of images with annotations in COCO's format, as tools/unpack_archives.py writes it. A config that inherits
# this one gives data_root, classes and pipelines, and the annotation files of the evaluators.
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(type='CocoDataset', ann_file='annotations/train.json', data_prefix=dict(img='images/')),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='CocoDataset', ann_file='annotations/val.json', data_prefix=dict(img='images/'), test_mode=True),
)
test_dataloader = dict(val_dataloader, dataset=dict(val_dataloader['dataset'], ann_file='annotations/test.json'))
val_evaluator = test_evaluator = dict(type='CocoMetric', metric='bbox')
pack = dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))
