# The small sets at 192 pixels, about the scale at which detectors, segmenters and classifiers then see them.
_base_ = '../../_base_/datasets/sets.py'

train_dataloader = dict(
    batch_size=128,
    num_workers=4,
    dataset=dict(
        pipeline=[
            dict(type='RandomResizedCrop', size=192, scale=(0.35, 1.0), interpolation='bicubic'),
            dict(type='RandomFlip', prob=0.5),
        ],
    ),
)
