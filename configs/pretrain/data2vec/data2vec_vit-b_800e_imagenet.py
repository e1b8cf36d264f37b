# data2vec, ViT-B/16: 2048 images per step, for example 16 processes of 128. What is predicted is the mean of the last
# six blocks of a moving average of the encoder.
_base_ = [
    '../../_base_/encoders/beit_data2vec.py',
    '../../_base_/datasets/imagenet_data2vec.py',
    '../../_base_/schedules/data2vec_800e.py',
    '../../_base_/runtime.py',
]

model = dict(
    type='MaskedAutoencoder',
    data_preprocessor={{_base_.data_preprocessor}},
    encoder={{_base_.encoder}},
    masking=dict(type='BlockMasking', ratio=120 / 196, min_cells=16, count='round_visible'),
    decoder=dict(type='LinearDecoder'),
    objectives=dict(
        latent=dict(
            target=dict(type='EMATarget', levels=6),
            losses=[dict(type='MaskedSmoothL1Loss', beta=2.0)],
        ),
    ),
)
custom_hooks = [dict(type='MomentumHook', momentum=0.9998)]
train_dataloader = dict(batch_size=128)
default_hooks = dict(reconstruction=None)  # features are no pictures
