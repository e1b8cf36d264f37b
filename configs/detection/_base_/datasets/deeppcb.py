# Defects of printed circuit boards (DeepPCB), 640 x 640 in one bit, unpacked by tools/unpack_archives.py into data/sets
# and halved: boxes of six classes.
_base_ = './small_coco_set.py'

classes = ('open', 'short', 'mousebite', 'spur', 'copper', 'pin-hole')
data_root = 'data/sets/deeppcb/'
images = dict(data_root=data_root, metainfo=dict(classes=classes))
scale = (320, 320)
crop = (320, 320)
held_out = dict(
    **images,
    pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=scale, keep_ratio=True),
        dict(type='LoadAnnotations', with_bbox=True),
        _base_.pack,
    ],
)
train_dataloader = dict(
    dataset=dict(
        **images,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='RandomResize', scale=scale, ratio_range=(0.75, 1.25), keep_ratio=True),
            dict(type='RandomCrop', crop_size=crop, allow_negative_crop=True),
            dict(type='RandomFlip', prob=0.5, direction=['horizontal', 'vertical']),
            dict(type='PackDetInputs'),
        ],
    ),
)
val_dataloader = test_dataloader = dict(dataset=held_out)
val_evaluator = dict(ann_file=data_root + 'annotations/val.json')
test_evaluator = dict(ann_file=data_root + 'annotations/test.json')
