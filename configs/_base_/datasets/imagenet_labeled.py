# ImageNet-1k with its labels, augmented as MAE's fine-tuning does (arXiv:2111.06377, appendix A.1, table 9):
# RandAugment, random erasing, mixup and cutmix. data/imagenet/{train,val}/<wnid>/*.JPEG
data_preprocessor = dict(
    type='ClassificationPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    random_erasing=0.25,
    mixup=dict(mixup_alpha=0.8, cutmix_alpha=1.0),
)
train_dataloader = dict(
    batch_size=64,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='mae_toolkit.image_collate'),
    dataset=dict(
        type='LabeledDataset',
        data_root='data/imagenet',
        layout='imagenet',
        split='train',
        pipeline=[
            dict(type='RandomResizedCrop', size=224, scale=(0.08, 1.0), interpolation='bicubic'),
            dict(type='RandomFlip', prob=0.5),
            dict(type='RandAugment', policy='rand-m9-mstd0.5-inc1', interpolation='bicubic'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=4,
    sampler=dict(type='EpochSampler', shuffle=False, round_up=False),
    collate_fn=dict(type='mae_toolkit.image_collate'),
    dataset=dict(
        type='LabeledDataset',
        data_root='data/imagenet',
        layout='imagenet',
        split='val',
        classes='train',
        pipeline=[dict(type='Resize', size=256, interpolation='bicubic'), dict(type='CenterCrop', size=224)],
    ),
)
val_cfg = dict(type='ValLoop')
val_evaluator = dict(type='Accuracy', topk=(1, 5))
