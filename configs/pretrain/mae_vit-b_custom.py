# Your own images: set data_root, the folder that holds them (with subfolders, any mixture of sizes and formats, but
# one type of numbers). The settings that follow are used below, so change them here, not by --cfg-options.
_base_ = '../_base_/runtime.py'

data_root = 'data/my_images'
channels = 3
batch_size = 64  # per process
epochs = 400
size = 224  # pixels of the crops, or (height, width); multiples of 16
hold_out = 20  # one image in this many is held out of training, for validation
mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]  # per channel, in the units of the files

model = dict(
    type='MaskedAutoencoder',
    data_preprocessor=dict(type='ImagePreprocessor', mean=mean, std=std),
    encoder=dict(type='ViT', arch='vit_base_patch16_224', img_size=size, in_chans=channels),
    masking=dict(type='RandomMasking', ratio=0.75),
    decoder=dict(type='TransformerDecoder', embed_dim=512, depth=8, num_heads=16),
    objectives=dict(
        pixel=dict(target=dict(type='PixelTarget', norm_pix=True), losses=[dict(type='MaskedL2Loss')]),
    ),
)

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='mae_toolkit.image_collate'),
    dataset=dict(
        type='ImageDataset',
        data_root=data_root,
        channels=channels,
        hold_out=hold_out,
        pipeline=[
            dict(type='RandomResizedCrop', size=size, scale=(0.2, 1.0), interpolation='bicubic'),
            dict(type='RandomFlip', prob=0.5),
        ],
    ),
)
val_dataloader = dict(
    batch_size=batch_size,
    num_workers=2,
    sampler=dict(type='EpochSampler', shuffle=False, round_up=False),
    collate_fn=dict(type='mae_toolkit.image_collate'),
    dataset=dict(
        type='ImageDataset',
        data_root=data_root,
        channels=channels,
        hold_out=-hold_out,
        pipeline=[
            dict(type='Resize', size=size if isinstance(size, int) else max(size), interpolation='bicubic'),
            dict(type='CenterCrop', size=size),
        ],
    ),
)
val_cfg = dict(type='MAEValLoop', seed=0)

train_cfg = dict(type='EpochTrainLoop', max_epochs=epochs, val_interval=10)
auto_scale_lr = dict(base_batch_size=batch_size)
optim_wrapper = dict(
    type='AutocastOptimWrapper',
    dtype='bfloat16',
    constructor='GroupedOptimWrapperConstructor',
    clip_grad=dict(max_norm=5.0),
    optimizer=dict(type='AdamW', lr=1.5e-4 * batch_size / 256, betas=(0.9, 0.95), weight_decay=0.05, fused=True),
)
warmup = max(1, epochs // 20)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, begin=0, end=warmup, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=0.0, begin=warmup, by_epoch=True, convert_to_iter_based=True),
]
