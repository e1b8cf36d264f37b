# Semantic FPN (arXiv:1901.02446) over four maps of an encoder, of strides 4 to 32. A config that inherits this one
# gives the backbone and neck.in_channels.
_base_ = './segmenter.py'

model = dict(
    neck=dict(type='FPN', out_channels=256, num_outs=4),
    decode_head=dict(
        type='FPNHead',
        in_channels=[256, 256, 256, 256],
        in_index=[0, 1, 2, 3],
        feature_strides=[4, 8, 16, 32],
        channels=128,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=dict(type='BN'),
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=1.0),
    ),
)
