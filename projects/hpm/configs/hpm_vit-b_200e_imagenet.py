# HPM, ViT-B/16 on ImageNet-1k, as published: 2048 images per step, for example 32 processes of 64.
_base_ = [
    '../../../configs/_base_/encoders/vit.py',
    '../../../configs/_base_/datasets/imagenet.py',
    '../../../configs/_base_/runtime.py',
]

custom_imports = dict(imports=['projects.hpm'], allow_failed_imports=False)
epochs = 200

model = dict(
    type='HPM',
    data_preprocessor={{_base_.data_preprocessor}},
    encoder={{_base_.encoder}},
    masking=dict(type='HardPatchMasking', ratio=0.75),
    decoder=dict(type='TransformerDecoder', embed_dim=512, depth=8, num_heads=16),
    loss_decoder=dict(type='TransformerDecoder', embed_dim=512, depth=8, num_heads=16),
    objectives=dict(
        pixel=dict(target=dict(type='PixelTarget', norm_pix=True), losses=[dict(type='MaskedL2Loss')]),
    ),
)
custom_hooks = [
    # Half of the hidden cells are the hardest at last; a step per epoch.
    dict(
        type='MaskingScheduleHook',
        name='hard',
        values=[0.5 * (epoch + 1) / epochs for epoch in range(epochs)],
        mode='step',
    ),
    # Within the first 100 epochs the teacher becomes slower.
    dict(type='MomentumHook', momentum=0.999, end_momentum=0.9999, ramp=100 / epochs),
]

# Base learning rate 1.5e-4 for 256 images, batch 2048.
auto_scale_lr = dict(base_batch_size=2048)
train_cfg = dict(type='EpochTrainLoop', max_epochs=epochs, val_interval=20)
optim_wrapper = dict(
    type='AmpOptimWrapper',
    dtype='float16',
    loss_scale='dynamic',
    constructor='GroupedOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1.5e-4 * 2048 / 256, betas=(0.9, 0.95), weight_decay=0.05, fused=True),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, begin=0, end=40, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=0.0, begin=40, by_epoch=True, convert_to_iter_based=True),
]
