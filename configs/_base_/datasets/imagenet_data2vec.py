# ImageNet-1k, crops of at least 0.08 of an image: BEiT's and data2vec's, without their jitter of colors.
_base_ = './imagenet.py'

train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='RandomResizedCrop', size=224, scale=(0.08, 1.0), interpolation='bicubic'),
            dict(type='RandomFlip', prob=0.5),
        ],
    ),
)
