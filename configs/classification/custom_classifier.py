# A classifier of your own classes. `mae-toolkit finetune classify` fills in the settings at the top from your data; a
# config that inherits this one, or --cfg-options, may set them, too.
_base_ = '../_base_/runtime_classification.py'

# The encoder
weights = None  # that it begins with: the folder of a run, or [FORMAT:]FILE[#PART]
# Your data
images = 'data/mine'  # folder to which the paths in the lists are relative
labels = 'data/mine'  # folder of train.txt, val.txt and test.txt: a path and a class in each line
test_split = 'test'  # 'val' without a test.txt
classes = ['ant', 'bee']
label_fraction = None  # share of the training images that are used; None for all
# Sizes
size = 224  # pixels of a side of the crops
smallest_crop = 0.3  # share of an image that a crop has at least
augmentation = 'rand-m7-mstd0.5-inc1'  # policy of RandAugment, which takes images of 8 bits; None leaves it out
# Training
batch_size = 64  # images per step
workers = 2  # processes that load images
epochs = 50
minutes = None  # those of --minutes of the command that fitted the length to them; for information only
validations = 10  # of the held-out images, at equal distances
patience = None  # validations in a row without a better result after which training stops; None never stops it
warmup = 0.05  # of the epochs, in which the learning rate rises
lr = 1e-3  # of the head; the encoder has a share of it
encoder_lr = 1.0  # share of the learning rate for the encoder, before its decay
layer_decay = 0.8  # of the learning rate, from each block of the encoder to the one before it
weight_decay = 0.05
seed = 0
arguments = None  # of the command that wrote the file, which its --resume compares; a note, which changes nothing

metric = 'accuracy/top1'
val_interval = -(-epochs // validations)  # rounded up, so that the last validation is the only one at the end
model = dict(
    type='Classifier',
    data_preprocessor=dict(
        type='ClassificationPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        random_erasing=0.25,
    ),
    encoder=dict(
        type='ConvNeXt',
        arch='convnextv2_atto',
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint=weights) if weights else None,
    ),
    num_classes=len(classes),
    pooling='mean',
    head_norm=True,
    label_smoothing=0.1,
)

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=workers,
    persistent_workers=workers > 0,
    drop_last=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='mae_toolkit.image_collate'),
    dataset=dict(
        type='LabeledDataset',
        data_root=images,
        ann_file=f'{labels}/train.txt',
        classes=classes,
        label_fraction=label_fraction,
        pipeline=[
            dict(type='RandomResizedCrop', size=size, scale=(smallest_crop, 1.0), interpolation='bicubic'),
            dict(type='RandomFlip', prob=0.5),
            *([dict(type='RandAugment', policy=augmentation, interpolation='bicubic')] if augmentation else []),
        ],
    ),
)
val_dataloader = dict(
    batch_size=batch_size,
    num_workers=workers,
    sampler=dict(type='EpochSampler', shuffle=False, round_up=False),
    collate_fn=dict(type='mae_toolkit.image_collate'),
    dataset=dict(
        type='LabeledDataset',
        data_root=images,
        ann_file=f'{labels}/val.txt',
        classes=classes,
        pipeline=[dict(type='Resize', size=size, interpolation='bicubic'), dict(type='CenterCrop', size=size)],
    ),
)
test_dataloader = dict(val_dataloader, dataset=dict(val_dataloader['dataset'], ann_file=f'{labels}/{test_split}.txt'))
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = [dict(type='Accuracy', topk=(1,)), dict(type='ClassRecall')]

train_cfg = dict(type='EpochTrainLoop', max_epochs=epochs, val_interval=val_interval)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(base_batch_size=batch_size)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(decay_rate=layer_decay, encoder_lr_mult=encoder_lr),
    clip_grad=dict(max_norm=5.0),
    optimizer=dict(type='AdamW', lr=lr, betas=(0.9, 0.999), weight_decay=weight_decay),
)
rise = max(1, round(warmup * epochs)) if epochs > 1 else 0  # a single epoch has no warm-up
rising = dict(type='LinearLR', start_factor=1e-2, begin=0, end=rise, by_epoch=True, convert_to_iter_based=True)
falling = dict(type='CosineAnnealingLR', eta_min=0.0, begin=rise, by_epoch=True, convert_to_iter_based=True)
param_scheduler = [rising, falling] if rise else [falling]

default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(interval=val_interval, max_keep_ckpts=1, save_best=metric, rule='greater'),
)
stopping = dict(type='EarlyStoppingHook', monitor=metric, rule='greater', patience=patience or 1, min_delta=1e-6)
custom_hooks = [stopping] if patience else []
randomness = dict(seed=seed, diff_rank_seed=True)
