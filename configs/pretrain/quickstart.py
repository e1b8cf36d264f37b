# A small masked autoencoder on the images that come with the repository: a few minutes on two CPU cores.
_base_ = '../_base_/runtime.py'

data_root = '{{ fileDirname }}/../../mae_toolkit/data/tiny'  # blood cells (MIT) and nuclei (CC0)
size = 64
epochs = 20

model = dict(
    type='MaskedAutoencoder',
    data_preprocessor=dict(type='ImagePreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    encoder=dict(
        type='ViT', arch='vit_tiny_patch16_224', patch_size=8, embed_dim=128, depth=4, num_heads=4, img_size=size
    ),
    masking=dict(type='RandomMasking', ratio=0.75),
    decoder=dict(type='TransformerDecoder', embed_dim=96, depth=2, num_heads=4),
    objectives=dict(
        pixel=dict(target=dict(type='PixelTarget'), losses=[dict(type='MaskedL2Loss')]),
    ),
)

train_dataloader = dict(
    batch_size=24,  # many small steps: the model is small, and a few minutes are short
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='mae_toolkit.image_collate'),
    dataset=dict(
        type='ImageDataset',
        data_root=data_root,
        ann_file='train.txt',
        repeat=32,  # 96 images: an epoch goes over them 32 times, with other crops each time
        pipeline=[
            dict(type='RandomResizedCrop', size=size, scale=(0.06, 0.25)),
            dict(type='RandomFlip', direction=['horizontal', 'vertical']),
        ],
    ),
)
val_dataloader = dict(
    batch_size=24,
    num_workers=0,
    sampler=dict(type='EpochSampler', shuffle=False, round_up=False),
    collate_fn=dict(type='mae_toolkit.image_collate'),
    dataset=dict(
        type='ImageDataset',
        data_root=data_root,
        ann_file='val.txt',
        pipeline=[dict(type='Resize', size=2 * size), dict(type='CenterCrop', size=size)],
    ),
)
val_cfg = dict(type='MAEValLoop', seed=0)

train_cfg = dict(type='EpochTrainLoop', max_epochs=epochs, val_interval=4)
auto_scale_lr = dict(base_batch_size=24)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='GroupedOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1.5e-3, betas=(0.9, 0.95), weight_decay=0.05, fused=True),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=1, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=0.0, begin=1, by_epoch=True, convert_to_iter_based=True),
]
default_hooks = dict(
    reconstruction=dict(interval=4, indices=(5, 13, 14, 1, 18, 23)),
    logger=dict(interval=10),
    checkpoint=dict(interval=4),
)
