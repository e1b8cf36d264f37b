# Small sets of real images, unpacked and listed by tools/unpack_archives.py into data/sets.
data_root = 'data/sets'
size = 96
data_preprocessor = dict(type='ImagePreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='mae_toolkit.image_collate'),
    dataset=dict(
        type='ImageDataset',
        data_root=data_root,
        ann_file='train.txt',
        pipeline=[
            dict(type='RandomResizedCrop', size=size, scale=(0.2, 1.0), interpolation='bicubic'),
            dict(type='RandomFlip', prob=0.5),
        ],
    ),
)
