# ImageNet-1k with its labels, augmented as MAE's fine-tuning does (arXiv:2111.06377, appendix A.1, table 9):
# RandAugment, random erasing, mixup and cutmix. data/imagenet/{train,val}/<wnid>/*.JPEG
_base_ = './imagenet.py'

data_preprocessor = dict(
    type='ClassificationPreprocessor', random_erasing=0.25, mixup=dict(mixup_alpha=0.8, cutmix_alpha=1.0)
)
train_dataloader = dict(
    dataset=dict(
        type='LabeledDataset',
        pipeline=[
            dict(type='RandomResizedCrop', size=224, scale=(0.08, 1.0), interpolation='bicubic'),
            dict(type='RandomFlip', prob=0.5),
            dict(type='RandAugment', policy='rand-m9-mstd0.5-inc1', interpolation='bicubic'),
        ],
    ),
)
val_dataloader = dict(dataset=dict(type='LabeledDataset', classes='train'))
val_cfg = dict(_delete_=True, type='ValLoop')
val_evaluator = dict(type='Accuracy', topk=(1, 5))
