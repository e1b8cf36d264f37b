# The 80 images of blood cells that come with the package, 224 x 168: boxes of three classes.
_base_ = './bccd.py'

data_root = '{{ fileDirname }}/../../../../mae_toolkit/data/tiny/bccd/'
train_dataloader = val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = dict(dataset=dict(data_root=data_root, ann_file='annotations/val.json'))
val_evaluator = test_evaluator = dict(ann_file=data_root + 'annotations/val.json')
