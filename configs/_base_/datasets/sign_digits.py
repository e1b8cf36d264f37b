# Hands that show the digits 0 to 9, 64 x 64 pixels, unpacked by tools/unpack_archives.py; mirrored, a hand shows the
# same digit.
data_root = 'data/sets/sign_digits'
size = 64
data_preprocessor = dict(
    type='ClassificationPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], random_erasing=0.25
)
train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='mae_toolkit.image_collate'),
    dataset=dict(
        type='LabeledDataset',
        data_root=data_root,
        split='train',
        pipeline=[
            dict(type='RandomResizedCrop', size=size, scale=(0.3, 1.0), interpolation='bicubic'),
            dict(type='RandomFlip', prob=0.5),
            dict(type='RandAugment', policy='rand-m7-mstd0.5-inc1', interpolation='bicubic'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type='EpochSampler', shuffle=False, round_up=False),
    collate_fn=dict(type='mae_toolkit.image_collate'),
    dataset=dict(
        type='LabeledDataset',
        data_root=data_root,
        split='val',
        classes='train',
        pipeline=[dict(type='Resize', size=size, interpolation='bicubic'), dict(type='CenterCrop', size=size)],
    ),
)
val_cfg = dict(type='ValLoop')
val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_dataloader = dict(val_dataloader, dataset=dict(val_dataloader['dataset'], split='test'))
test_cfg = dict(type='TestLoop')
test_evaluator = dict(type='Accuracy', topk=(1, 5))
