# HPM, ViT-B/16 on ImageNet-1k, as published: 2048 images per step, for example 32 processes of 64.
_base_ = [
    '../../../configs/_base_/datasets/imagenet.py',
    '../../../configs/_base_/schedules/mae_800e.py',
    '../../../configs/_base_/runtime.py',
]

custom_imports = dict(imports=['projects.hpm'], allow_failed_imports=False)
epochs = 200

model = dict(
    type='HPM',
    data_preprocessor=_base_.data_preprocessor,
    encoder=dict(type='ViT', arch='vit_base_patch16_224', img_size=224),
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
train_cfg = dict(max_epochs=epochs)
optim_wrapper = dict(optimizer=dict(lr=1.5e-4 * 2048 / 256))
