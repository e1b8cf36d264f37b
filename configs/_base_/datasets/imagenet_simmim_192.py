# ImageNet-1k at 192 pixels, crops of at least 0.67 of an image, bilinear: SimMIM's for Swin.
_base_ = './imagenet.py'

train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='RandomResizedCrop', size=192, scale=(0.67, 1.0), interpolation='bilinear'),
            dict(type='RandomFlip', prob=0.5),
        ],
    ),
)
val_dataloader = dict(
    dataset=dict(
        pipeline=[dict(type='Resize', size=219, interpolation='bilinear'), dict(type='CenterCrop', size=192)],
    ),
)
