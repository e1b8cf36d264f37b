# UperNet (arXiv:1807.10221) over four maps of an encoder or neck, of strides 4 to 32, with an auxiliary head on the
# third; tested on windows of 512 pixels that overlap by a third. A config that inherits this one gives the backbone and
# in_channels of both heads.
_base_ = './segmenter.py'

head = dict(dropout_ratio=0.1, num_classes=150, norm_cfg=dict(type='BN'))
model = dict(
    decode_head=dict(
        **head,
        type='UPerHead',
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=512,
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=1.0),
    ),
    auxiliary_head=dict(
        **head,
        type='FCNHead',
        in_index=2,
        channels=256,
        num_convs=1,
        concat_input=False,
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=0.4),
    ),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
)
