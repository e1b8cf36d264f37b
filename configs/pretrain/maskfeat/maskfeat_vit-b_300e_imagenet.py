# MaskFeat, ViT-B/16, as in MMPretrain: 2048 images per step, for example 16 processes of 128. 78 of 196 patches are
# hidden.
_base_ = [
    '../../_base_/encoders/vit_mask_token.py',
    '../../_base_/datasets/imagenet_maskfeat.py',
    '../../_base_/schedules/maskfeat_300e.py',
    '../../_base_/runtime.py',
]

model = dict(
    type='MaskedAutoencoder',
    data_preprocessor={{_base_.data_preprocessor}},
    encoder={{_base_.encoder}},
    masking=dict(type='BlockMasking', ratio=78 / 196, min_cells=15, count='round_visible'),
    decoder=dict(type='LinearDecoder'),
    objectives=dict(
        hog=dict(
            target=dict(type='HOGTarget'),
            losses=[dict(type='MaskedL2Loss')],
        ),
    ),
)
train_dataloader = dict(batch_size=128)
default_hooks = dict(reconstruction=None)  # histograms are no pictures
