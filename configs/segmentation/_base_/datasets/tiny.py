# The 40 images of nuclei that come with the package, at most 256 pixels a side: label 0 is background, 1 nucleus.
_base_ = './dsb2018.py'

data_root = '{{ fileDirname }}/../../../../mae_toolkit/data/tiny/dsb2018/'
train_dataloader = val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = dict(dataset=dict(data_root=data_root, ann_file='splits/val.txt'))
