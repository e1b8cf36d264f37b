# The same as SparK augments it: TrivialAugment in the place of RandAugment, and 95% of the image when it is evaluated.
_base_ = './imagenet_labeled.py'

train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='RandomResizedCrop', size=224, scale=(0.08, 1.0), interpolation='bicubic'),
            dict(type='RandomFlip', prob=0.5),
            dict(type='TrivialAugment', interpolation='bicubic'),
        ],
    ),
)
val_dataloader = dict(
    dataset=dict(
        pipeline=[dict(type='Resize', size=235, interpolation='bicubic'), dict(type='CenterCrop', size=224)],
    ),
)
