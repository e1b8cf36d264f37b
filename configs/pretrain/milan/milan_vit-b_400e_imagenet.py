# In the manner of MILAN (arXiv:2208.06049), ViT-B/16, as in MMPretrain: 4096 images per step, for example 64 processes
# of 64, in float32. CLIP's attention draws what is visible, and its features are predicted.
_base_ = [
    '../../_base_/datasets/imagenet.py',
    '../../_base_/schedules/mae_800e.py',
    '../../_base_/runtime.py',
]

# CLIP's ViT-B/16, as in timm; the README says where it comes from. Its images are normalized by these statistics.
clip = dict(
    checkpoint='checkpoints/vit_base_patch16_clip_quickgelu_224.openai.safetensors',
    network_mean=(122.771, 116.746, 104.094),
    network_std=(68.501, 66.632, 70.323),
)
attention = dict(type='ViT', arch='vit_base_patch16_clip_quickgelu_224', positions='learned', norm_eps=1e-5)
features = dict(type='timm', arch='vit_base_patch16_clip_quickgelu_224', projection=512)

model = dict(
    type='MaskedAutoencoder',
    data_preprocessor=_base_.data_preprocessor,
    encoder=dict(type='ViT', arch='vit_base_patch16_224', img_size=224),
    masking=dict(type='AttentionMasking', network=attention, **clip, mode='sample', ratio=0.75),
    decoder=dict(type='TransformerDecoder', embed_dim=512, depth=8, num_heads=16),
    objectives=dict(
        clip=dict(
            target=dict(type='FeatureTarget', network=features, **clip, norm=None),
            losses=[dict(type='MaskedCosineLoss')],
        ),
    ),
)
default_hooks = dict(reconstruction=None)  # features are not pictures
train_cfg = dict(max_epochs=400)
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    constructor='GroupedOptimWrapperConstructor',
    paramwise_cfg=dict(custom_keys=dict(mask_token=dict(decay_mult=0.0), cls_token=dict(decay_mult=0.0))),
    optimizer=_base_.optim_wrapper.optimizer,
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=40, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=0.0, begin=40, by_epoch=True, convert_to_iter_based=True),
]
