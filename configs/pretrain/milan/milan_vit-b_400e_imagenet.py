# After MILAN, ViT-B/16: 4096 images per step, for example 64 processes of 64. CLIP's attention draws what is visible,
# and its features are predicted.
_base_ = [
    '../../_base_/encoders/vit.py',
    '../../_base_/datasets/imagenet.py',
    '../../_base_/schedules/milan_400e.py',
    '../../_base_/runtime.py',
]

# CLIP's ViT-B/16, as timm has it; the README says whence. Its images are normalized by the statistics that follow.
clip = dict(
    checkpoint='checkpoints/vit_base_patch16_clip_quickgelu_224.openai.safetensors',
    network_mean=(122.771, 116.746, 104.094),
    network_std=(68.501, 66.632, 70.323),
)
attention = dict(type='ViT', arch='vit_base_patch16_clip_quickgelu_224', positions='learned', norm_eps=1e-5)
features = dict(type='timm', arch='vit_base_patch16_clip_quickgelu_224', projection=512)

model = dict(
    type='MaskedAutoencoder',
    data_preprocessor={{_base_.data_preprocessor}},
    encoder={{_base_.encoder}},
    masking=dict(type='AttentionMasking', network=attention, **clip, mode='sample', ratio=0.75),
    decoder=dict(type='TransformerDecoder', embed_dim=512, depth=8, num_heads=16),
    objectives=dict(
        clip=dict(
            target=dict(type='FeatureTarget', network=features, **clip, norm=None),
            losses=[dict(type='MaskedCosineLoss')],
        ),
    ),
)
default_hooks = dict(reconstruction=None)  # features are no pictures
