# ImageNet-1k as it is unpacked, without its labels: data/imagenet/{train,val}/<wnid>/*.JPEG
data_preprocessor = dict(type='ImagePreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
train_dataloader = dict(
    batch_size=64,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='mae_toolkit.image_collate'),
    dataset=dict(
        type='ImageDataset',
        data_root='data/imagenet',
        layout='imagenet',
        split='train',
        pipeline=[
            dict(type='RandomResizedCrop', size=224, scale=(0.2, 1.0), interpolation='bicubic'),
            dict(type='RandomFlip', prob=0.5),
        ],
    ),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=4,
    sampler=dict(type='EpochSampler', shuffle=False, round_up=False),
    collate_fn=dict(type='mae_toolkit.image_collate'),
    dataset=dict(
        type='ImageDataset',
        data_root='data/imagenet',
        layout='imagenet',
        split='val',
        pipeline=[dict(type='Resize', size=256, interpolation='bicubic'), dict(type='CenterCrop', size=224)],
    ),
)
val_cfg = dict(type='MAEValLoop', seed=0)
