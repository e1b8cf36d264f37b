# The 120 images that come with the package as two classes, blood cells and nuclei: a task for a first look, not for a
# comparison.
_base_ = './sign_digits.py'

data_root = '{{ fileDirname }}/../../../mae_toolkit/data/tiny'
train_dataloader = dict(batch_size=16, dataset=dict(data_root=data_root, ann_file='train_classes.txt', split=None))
val_dataloader = test_dataloader = dict(
    dataset=dict(data_root=data_root, ann_file='val_classes.txt', split=None, classes=['blood', 'nuclei'])
)
val_evaluator = test_evaluator = dict(topk=(1,))
