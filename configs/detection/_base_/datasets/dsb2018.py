# Nuclei (DSB2018), at most 256 pixels a side, unpacked by tools/unpack_archives.py into data/sets: masks of one class,
# up to 362 in an image.
_base_ = './small_coco_set.py'

images = dict(data_root='data/sets/dsb2018/', metainfo=dict(classes=('nucleus',)))
scale = (256, 256)
crop = (192, 192)
held_out = dict(
    **images,
    pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=scale, keep_ratio=True),
        dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
        _base_.pack,
    ],
)
train_dataloader = dict(
    dataset=dict(
        **images,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(type='RandomResize', scale=scale, ratio_range=(0.75, 1.25), keep_ratio=True),
            dict(type='RandomCrop', crop_size=crop, allow_negative_crop=True, recompute_bbox=True),
            # A nucleus that the crop grazes has no width, whose logarithm the box loss would take.
            dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1), keep_empty=False),
            dict(type='RandomFlip', prob=0.5, direction=['horizontal', 'vertical']),
            dict(type='PackDetInputs'),
        ],
    ),
)
val_dataloader = test_dataloader = dict(dataset=held_out)
val_evaluator = dict(ann_file='data/sets/dsb2018/annotations/val.json', metric=['bbox', 'segm'])
test_evaluator = dict(ann_file='data/sets/dsb2018/annotations/test.json', metric=['bbox', 'segm'])
