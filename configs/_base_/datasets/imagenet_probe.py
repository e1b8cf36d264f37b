# The same without augmentations beyond crop and flip, for linear probing (there, appendix A.1, table 10).
_base_ = './imagenet_labeled.py'

data_preprocessor = dict(random_erasing=0.0, mixup=None)
train_dataloader = dict(
    batch_size=256,
    dataset=dict(
        pipeline=[
            dict(type='RandomResizedCrop', size=224, scale=(0.08, 1.0), interpolation='bicubic'),
            dict(type='RandomFlip', prob=0.5),
        ],
    ),
)
