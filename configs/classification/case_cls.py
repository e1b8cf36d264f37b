import os

_base_ = './fcmae_ft_convnextv2-a_30e_sign-digits.py'
_tree = os.environ.get('CASE_TREE')
root = os.environ['CASE_ROOT'] + ('/tree' if _tree else '')
size = 32
tp = [dict(type='Resize', size=size), dict(type='CenterCrop', size=size)]


def one(split, ann):
    if _tree:
        return dict(data_root=root, split=split, classes=None, pipeline=tp)
    return dict(data_root=root, split=None, ann_file=ann, classes=None, pipeline=tp)


train_dataloader = dict(batch_size=16, num_workers=0, persistent_workers=False, dataset=one('train', 'train.txt'))
val_dataloader = dict(batch_size=16, dataset=one('val', os.environ.get('CASE_VAL', 'val.txt')))
test_dataloader = dict(batch_size=16, dataset=one('val', os.environ.get('CASE_VAL', 'val.txt')))
val_evaluator = test_evaluator = dict(type='Accuracy', topk=(1,))
model = dict(
    encoder=dict(init_cfg=None, out_indices=(1,), drop_path_rate=0.0),
    num_classes=4,
    data_preprocessor=dict(random_erasing=0.0),
)
train_cfg = dict(max_epochs=12, val_interval=12)
param_scheduler = [dict(type='ConstantLR', factor=1.0, by_epoch=True, begin=0, end=12)]
del one
env_cfg = dict(num_threads=1)
