# Nuclei (DSB2018), at most 256 pixels a side, unpacked by tools/unpack_archives.py into data/sets: label 0 is
# background, 1 nucleus. The labels are indices of a palette, as LoadAnnotations reads them; OpenCV would read colors.
data_root = 'data/sets/dsb2018/'
images = dict(
    type='BaseSegDataset',
    data_root=data_root,
    metainfo=dict(classes=('background', 'nucleus'), palette=[[0, 0, 0], [255, 255, 255]]),
    data_prefix=dict(img_path='images', seg_map_path='semantic'),
)
scale = (256, 256)
crop = (192, 192)
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        **images,
        ann_file='splits/train.txt',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
            dict(type='RandomResize', scale=scale, ratio_range=(0.75, 1.25), keep_ratio=True),
            dict(type='RandomCrop', crop_size=crop),
            dict(type='RandomFlip', prob=0.5, direction=['horizontal', 'vertical']),
            dict(type='PackSegInputs'),
        ],
    ),
)
held_out = dict(
    **images,
    test_mode=True,
    pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=scale, keep_ratio=True),
        dict(type='LoadAnnotations'),  # at the original size, at which predictions are compared
        dict(type='PackSegInputs'),
    ],
)
test_dataloader = dict(
    batch_size=1,
    num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**held_out, ann_file='splits/test.txt'),
)
val_dataloader = dict(test_dataloader, persistent_workers=True, dataset=dict(**held_out, ann_file='splits/val.txt'))
val_evaluator = test_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU', 'mDice'])
