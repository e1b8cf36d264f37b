# UM-MAE, Swin-T on ImageNet-1k, as published: images of 256 pixels, 4096 per step, for example 64 processes of 64.
_base_ = [
    '../../../configs/_base_/datasets/imagenet.py',
    '../../../configs/_base_/schedules/mae_800e.py',
    '../../../configs/_base_/runtime.py',
]

custom_imports = dict(imports=['projects.ummae'], allow_failed_imports=False)

model = dict(
    type='UMMAE',
    data_preprocessor=_base_.data_preprocessor,
    encoder=dict(
        type='CompactSwin',
        arch='swin_tiny_patch4_window7_224',
        window_size=8,
        img_size=256,
        position_dim=32,
        replaced=0.25,
    ),
    masking=dict(type='UniformMasking', ratio=0.75),
    decoder=dict(type='CompactDecoder', embed_dim=512, depth=2, num_heads=16),
    objectives=dict(
        pixel=dict(target=dict(type='PixelTarget', norm_pix=True, patch=16), losses=[dict(type='MaskedL2Loss')]),
    ),
)

train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='RandomResizedCrop', size=256, scale=(0.2, 1.0), interpolation='bicubic'),
            dict(type='RandomFlip', prob=0.5),
        ]
    )
)
val_dataloader = dict(
    dataset=dict(pipeline=[dict(type='Resize', size=292, interpolation='bicubic'), dict(type='CenterCrop', size=256)])
)

# The optimizer is MAE's; the warm-up is shorter.
train_cfg = dict(max_epochs=200)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, begin=0, end=10, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=0.0, begin=10, by_epoch=True, convert_to_iter_based=True),
]
