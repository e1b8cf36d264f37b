# MAE's fine-tuning of ViT-B (arXiv:2111.06377, table 9; the official FINETUNE.md): 1024 images per step, for example 16
# processes of 64. Published: 83.6% top-1 after 1600 epochs of pretraining.
_base_ = [
    '../_base_/datasets/imagenet_labeled.py',
    '../_base_/schedules/finetune.py',
    '../_base_/runtime_classification.py',
]

model = dict(
    type='Classifier',
    data_preprocessor=_base_.data_preprocessor,
    encoder=dict(
        type='ViT',
        arch='vit_base_patch16_224',
        positions='learned',
        final_norm=False,
        drop_path_rate=0.1,
        init_cfg=dict(
            type='Pretrained', checkpoint='work_dirs/mae_vit-b_1600e_imagenet/epoch_1600.pth', prefix='encoder'
        ),
    ),
    num_classes=1000,
    pooling='mean',
    head_norm=True,
    head_std=2e-5,
    label_smoothing=0.1,
)
