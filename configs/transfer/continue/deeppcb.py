# RetinaNet on defects of circuit boards at half their size, crops of 160.
_base_ = [
    '../../detection/_base_/models/retinanet_fpn.py',
    '../../detection/_base_/datasets/deeppcb.py',
    '../../_base_/schedules/steps_500.py',
    '../../detection/_base_/runtime_steps.py',
]

data_root = 'data/unseen/deeppcb/'
crop = (160, 160)

model = dict(
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]),
    backbone=dict(type='mae_toolkit.SparseCNN', arch='tf_efficientnet_lite0', out_indices=(2, 3, 4)),
    neck=dict(in_channels=[40, 112, 320], out_channels=64),
    bbox_head=dict(
        num_classes=6,
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        anchor_generator=dict(octave_base_scale=2),
    ),
)
train_cfg = dict(max_iters=600, val_interval=100)
train_dataloader = dict(batch_size=8)
