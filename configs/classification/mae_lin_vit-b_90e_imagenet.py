# MAE's linear probe of ViT-B (arXiv:2111.06377, table 10): 16384 images per step, for example 64 processes of 256.
# Published: 68.0% top-1.
_base_ = [
    '../_base_/datasets/imagenet_probe.py',
    '../_base_/schedules/linear_probe.py',
    '../_base_/runtime_classification.py',
]

model = dict(
    type='Classifier',
    data_preprocessor={{_base_.data_preprocessor}},
    encoder=dict(
        type='ViT',
        arch='vit_base_patch16_224',
        init_cfg=dict(
            type='Pretrained', checkpoint='work_dirs/mae_vit-b_1600e_imagenet/epoch_1600.pth', prefix='encoder'
        ),
    ),
    num_classes=1000,
    freeze=True,
    pooling='class',
    batch_norm=True,
    head_std=0.01,
)
