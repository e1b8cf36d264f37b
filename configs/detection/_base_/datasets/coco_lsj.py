# COCO 2017 with large-scale jittering (arXiv:2012.07177, section 3): images at a tenth to twice of 1024 pixels, a crop
# of 1024 of each. Four images on each of 8 GPUs are the batch of 32 that the recipes train with.
_base_ = './coco.py'

_base_.train_dataloader.pop('batch_sampler')  # all crops have the same size
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(type='RandomResize', scale=(1024, 1024), ratio_range=(0.1, 2.0), keep_ratio=True),
            dict(
                type='RandomCrop',
                crop_type='absolute_range',
                crop_size=(1024, 1024),
                recompute_bbox=True,
                allow_negative_crop=True,
            ),
            dict(type='FilterAnnotations', min_gt_bbox_wh=(1e-2, 1e-2)),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackDetInputs'),
        ],
    ),
)
