# MaskFeat of the same ViT, with a mask token: it predicts histograms of gradients.
_base_ = ['../_base_/datasets/sets.py', '../_base_/schedules/compare.py', '../_base_/runtime.py']

model = dict(
    type='MaskedAutoencoder',
    data_preprocessor=_base_.data_preprocessor,
    encoder=dict(
        type='ViT',
        arch='vit_tiny_patch16_224',
        patch_size=8,
        embed_dim=128,
        depth=6,
        num_heads=4,
        img_size=96,
        mask_token=True,
    ),
    masking=dict(type='BlockMasking', ratio=0.4),
    decoder=dict(type='LinearDecoder'),
    objectives=dict(hog=dict(target=dict(type='HOGTarget'), losses=[dict(type='MaskedL2Loss')])),
)
