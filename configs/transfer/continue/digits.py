# Sign digits: a linear layer on a frozen encoder, and the nearest neighbors of the same features (knn/top1).
_base_ = [
    '../../_base_/datasets/sign_digits.py',
    '../../_base_/schedules/probe_sign_digits.py',
    '../../_base_/runtime_classification.py',
]

data_root = 'data/own/sign_digits'
size = 96

model = dict(
    type='Classifier',
    data_preprocessor=dict(
        type='ClassificationPreprocessor', mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5], random_erasing=0.0
    ),
    encoder=dict(type='SparseCNN', arch='tf_efficientnet_lite0'),
    num_classes=10,
    freeze=True,
    batch_norm=True,
)
train_cfg = dict(max_epochs=10, val_interval=2)
train_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        pipeline=[
            dict(type='RandomResizedCrop', size=size, scale=(0.6, 1.0), interpolation='bicubic'),
            dict(type='RandomFlip', prob=0.5),
        ],
    ),
)
test_cfg = dict(type='KNNTestLoop', k=20)
