# MixMIM (MixMAE), Swin-B with windows of 14 on ImageNet-1k, as published: 2048 images per step.
_base_ = [
    '../../../configs/_base_/datasets/imagenet.py',
    '../../../configs/_base_/schedules/mae_800e.py',
    '../../../configs/_base_/runtime.py',
]

custom_imports = dict(imports=['projects.mixmim'], allow_failed_imports=False)

model = dict(
    type='MixMIM',
    data_preprocessor=_base_.data_preprocessor,
    encoder=dict(type='MixMIMSwin', arch='swin_base_patch4_window7_224', window_size=14, img_size=224),
    masking=dict(type='RandomMasking', ratio=0.5, count='int_hidden', shared=True),
    decoder=dict(type='TransformerDecoder', embed_dim=512, depth=8, num_heads=16, norm_eps=1e-5),
    objectives=dict(
        pixel=dict(target=dict(type='PixelTarget', norm_pix=True), losses=[dict(type='MaskedL2Loss')]),
    ),
)

# Base learning rate 1.5e-4 for 256 images, batch 2048.
auto_scale_lr = dict(base_batch_size=2048)
train_cfg = dict(max_epochs=600)
optim_wrapper = dict(optimizer=dict(lr=1.5e-4 * 2048 / 256))
