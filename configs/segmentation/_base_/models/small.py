# What small segmenters share, for two classes. A config that inherits this one gives the size of the crops, the
# backbone and the type and in_channels of the head.
_base_ = './segmenter.py'

model = dict(
    decode_head=dict(
        in_index=[0, 1, 2, 3],
        channels=64,
        dropout_ratio=0.1,
        num_classes=2,
        out_channels=2,
        norm_cfg=dict(type='BN'),
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True),
    ),
)
