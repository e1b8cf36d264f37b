# A detector of your own objects: Faster R-CNN, or Mask R-CNN with masks = True. `mae-toolkit finetune detect` fills in
# the settings at the top from your data; a config that inherits this one, or --cfg-options, may set them, too.
_base_ = ['./_base_/models/mask_rcnn_fpn.py', './_base_/runtime_steps.py']

# The encoder
weights = None  # that it begins with: the folder of a run, or [FORMAT:]FILE[#PART]
# Your data
images = 'data/mine/images'  # folder to which the file names in the annotations are relative
labels = 'data/mine/annotations'  # folder of train.json, val.json and test.json, in COCO's format
test_split = 'test'  # 'val' without a test.json
classes = ['bolt', 'nut']
masks = False  # find outlines, too: every annotation needs a segmentation
# Sizes
size = 512  # pixels of the longer side of an image
width = 256  # channels of the pyramid and of the heads
anchor_scale = 8  # side of the anchors of the finest level, in units of its 4 pixels
max_objects = 100  # found in one image, at most
proposals = 1000  # regions of an image that the second stage looks at
# Training
batch_size = 4  # images per step
workers = 2  # processes that load images
steps = 2000
minutes = None  # those of --minutes of the command that fitted the length to them; for information only
validations = 10  # of the held-out images, at equal distances
patience = None  # validations in a row without a better result after which training stops; None never stops it
warmup = 0.05  # of the steps, in which the learning rate rises
lr = 1e-4  # of the head; the encoder has a share of it
encoder_lr = 1.0  # share of the learning rate for the encoder, before its decay
layer_decay = 0.9  # of the learning rate, from each block of the encoder to the one before it
weight_decay = 0.05
seed = 0
arguments = None  # of the command that wrote the file, which its --resume compares; a note, which changes nothing

val_interval = -(-steps // validations)  # rounded up, so that the last validation is the only one at the end
warmup_steps = max(2, round(warmup * steps))
metric = 'coco/segm_mAP' if masks else 'coco/bbox_mAP'
finest = max(28, 56 * size // 800)  # smaller objects are read from the finest level; 56 is for images of 800 pixels
model = dict(
    type='MaskRCNN' if masks else 'FasterRCNN',
    data_preprocessor=dict(pad_mask=masks),
    backbone=dict(
        type='mae_toolkit.ConvNeXt',
        arch='convnextv2_atto',
        out_indices=(0, 1, 2, 3),
        out_norms=True,
        init_cfg=dict(type='Pretrained', checkpoint=weights) if weights else None,
    ),
    neck=dict(in_channels=[40, 80, 160, 320], out_channels=width),
    rpn_head=dict(in_channels=width, feat_channels=width, anchor_generator=dict(scales=[anchor_scale])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=width, finest_scale=finest),
        bbox_head=dict(in_channels=width, fc_out_channels=4 * width, num_classes=len(classes)),
        mask_roi_extractor=dict(out_channels=width, finest_scale=finest) if masks else None,
        mask_head=dict(in_channels=width, conv_out_channels=width, num_classes=len(classes)) if masks else None,
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=2 * proposals, max_per_img=proposals),
        rcnn=dict(sampler=dict(num=min(512, proposals))),
    ),
    test_cfg=dict(
        rpn=dict(nms_pre=proposals, max_per_img=proposals),
        rcnn=dict(max_per_img=max_objects),
    ),
)

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=workers,
    persistent_workers=workers > 0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='CocoDataset',
        ann_file=f'{labels}/train.json',
        data_prefix=dict(img=images),
        metainfo=dict(classes=classes),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=masks),
            dict(type='RandomResize', scale=(size, size), ratio_range=(0.75, 1.25), keep_ratio=True),
            dict(type='RandomCrop', crop_size=(size, size), allow_negative_crop=True, recompute_bbox=masks),
            # What the edge of a crop leaves of an object may have no width, whose logarithm the box loss would take.
            dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1), keep_empty=False),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackDetInputs'),
        ],
    ),
)
held_out = dict(
    type='CocoDataset',
    data_prefix=dict(img=images),
    metainfo=dict(classes=classes),
    test_mode=True,
    pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(size, size), keep_ratio=True),
        dict(type='LoadAnnotations', with_bbox=True, with_mask=masks),
        dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
    ],
)
val_dataloader = dict(
    batch_size=batch_size,
    num_workers=workers,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(held_out, ann_file=f'{labels}/val.json'),
)
test_dataloader = dict(val_dataloader, dataset=dict(held_out, ann_file=f'{labels}/{test_split}.json'))
kinds = ['bbox', 'segm'] if masks else ['bbox']
val_evaluator = dict(type='CocoMetric', ann_file=f'{labels}/val.json', metric=kinds)
test_evaluator = dict(type='CocoMetric', ann_file=f'{labels}/{test_split}.json', metric=kinds, classwise=True)

train_cfg = dict(type='IterBasedTrainLoop', max_iters=steps, val_interval=val_interval)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(base_batch_size=batch_size)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='mae_toolkit.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(decay_rate=layer_decay, encoder_lr_mult=encoder_lr),
    clip_grad=dict(max_norm=5.0),
    optimizer=dict(type='AdamW', lr=lr, betas=(0.9, 0.999), weight_decay=weight_decay),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=False, begin=0, end=warmup_steps),
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=False, begin=warmup_steps),
]

default_hooks = dict(
    logger=dict(interval=min(20, val_interval)),
    checkpoint=dict(interval=val_interval, max_keep_ckpts=1, save_best=metric, rule='greater'),
)
stopping = dict(type='EarlyStoppingHook', monitor=metric, rule='greater', patience=patience or 1, min_delta=1e-6)
custom_hooks = [stopping] if patience else []
randomness = dict(seed=seed, diff_rank_seed=True)
