# A light FCN on nuclei, images of at most 192 pixels, crops of 96. A nucleus is what has a probability of 0.3 or more:
# 0.5 is far for the bias of a layer of so few steps.
_base_ = [
    '../../segmentation/_base_/models/small.py',
    '../../segmentation/_base_/datasets/dsb2018.py',
    '../../_base_/schedules/steps_500.py',
    '../../segmentation/_base_/runtime_small.py',
]

data_root = 'data/own/dsb2018/'
scale = (192, 192)
crop = (96, 96)

model = dict(
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5], size=crop),
    backbone=dict(type='mae_toolkit.SparseCNN', arch='tf_efficientnet_lite0', out_indices=(1, 2, 3, 4)),
    decode_head=dict(
        type='FCNHead',
        in_channels=[24, 40, 112, 320],
        input_transform='resize_concat',
        num_convs=1,
        kernel_size=1,
        concat_input=False,
        out_channels=1,
        threshold=0.3,
        loss_decode=dict(use_sigmoid=True),
    ),
)
train_cfg = dict(max_iters=600, val_interval=100)
optim_wrapper = dict(
    constructor='mae_toolkit.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(decay_rate=0.8),
)
train_dataloader = dict(batch_size=8)
