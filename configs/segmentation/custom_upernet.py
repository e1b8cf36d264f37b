# A segmenter of your own classes: UPerNet, or an FCN with head = 'FCNHead'. `mae-toolkit finetune segment` fills in the
# settings at the top from your data; a config that inherits this one, or --cfg-options, may set them, too.
_base_ = ['./_base_/models/segmenter.py', './_base_/runtime.py']

# The encoder
weights = None  # that it begins with: the folder of a run, or [FORMAT:]FILE[#PART]
# Your data
images = {'train': 'data/mine/images', 'val': 'data/mine/images', 'test': 'data/mine/images'}  # folders
masks = {'train': 'data/mine/masks', 'val': 'data/mine/masks', 'test': 'data/mine/masks'}  # folders
labels = 'data/mine/splits'  # folder of train.txt, val.txt and test.txt: names of images without their suffixes
image_suffix = '.jpg'
mask_suffix = '.png'
test_split = 'test'  # 'val' without a test.txt
classes = ['background', 'leaf']  # of the labels 0, 1, and so on; 255 does not count
class_weights = None  # of the loss, by class
# Sizes
size = 512  # pixels of the longer side of an image
crop = 512  # pixels of a side of what is cut out of it in training
head = 'UPerHead'
width = 256  # channels of the head
# Training
batch_size = 8  # images per step
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
metric = 'mIoU'
heads = dict(
    UPerHead=dict(pool_scales=(1, 2, 3, 6)),
    FCNHead=dict(input_transform='resize_concat', num_convs=1, kernel_size=1, concat_input=False),
)
whole = dict(mode='whole')
sliding = dict(mode='slide', crop_size=(crop, crop), stride=(2 * crop // 3, 2 * crop // 3))
model = dict(
    data_preprocessor=dict(size=(crop, crop)),
    backbone=dict(
        type='mae_toolkit.ConvNeXt',
        arch='convnextv2_atto',
        out_indices=(0, 1, 2, 3),
        out_norms=True,
        init_cfg=dict(type='Pretrained', checkpoint=weights) if weights else None,
    ),
    decode_head=dict(
        type=head,
        in_channels=[40, 80, 160, 320],
        in_index=[0, 1, 2, 3],
        channels=width,
        dropout_ratio=0.1,
        num_classes=len(classes),
        out_channels=len(classes),
        norm_cfg=dict(type='BN'),
        # With class weights, MMSegmentation always leaves out ignored pixels, and avg_non_ignore=True fails.
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=class_weights is None, class_weight=class_weights),
        **heads[head],
    ),
    # Images of 512 pixels fit into memory whole, also where few minutes made the crops small.
    test_cfg=whole if size <= max(2 * crop, 512) else sliding,
)

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=workers,
    persistent_workers=workers > 0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='BaseSegDataset',
        metainfo=dict(classes=classes),
        data_prefix=dict(img_path=images['train'], seg_map_path=masks['train']),
        img_suffix=image_suffix,
        seg_map_suffix=mask_suffix,
        ann_file=f'{labels}/train.txt',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
            dict(type='RandomResize', scale=(size, size), ratio_range=(0.75, 1.25), keep_ratio=True),
            dict(type='RandomCrop', crop_size=(crop, crop), cat_max_ratio=0.9),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackSegInputs'),
        ],
    ),
)
held_out = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(size, size), keep_ratio=True),
    dict(type='LoadAnnotations'),  # at the original size, at which predictions are compared
    dict(type='PackSegInputs'),
]
val_dataloader = dict(
    batch_size=1,
    num_workers=workers,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='BaseSegDataset',
        metainfo=dict(classes=classes),
        data_prefix=dict(img_path=images['val'], seg_map_path=masks['val']),
        img_suffix=image_suffix,
        seg_map_suffix=mask_suffix,
        ann_file=f'{labels}/val.txt',
        test_mode=True,
        pipeline=held_out,
    ),
)
test_dataloader = dict(
    val_dataloader,
    dataset=dict(
        val_dataloader['dataset'],
        data_prefix=dict(img_path=images[test_split], seg_map_path=masks[test_split]),
        ann_file=f'{labels}/{test_split}.txt',
    ),
)
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = [dict(type='IoUMetric', iou_metrics=['mIoU']), dict(type='mae_toolkit.ClassRecall')]

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
