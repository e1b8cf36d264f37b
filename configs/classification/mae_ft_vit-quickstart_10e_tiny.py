# Fine-tuning of the encoder that "make pretrain" pretrains on the images that come with the package: blood cells or
# nuclei; from scratch with --cfg-options model.encoder.init_cfg=None.
_base_ = [
    '../_base_/datasets/tiny_labeled.py',
    '../_base_/schedules/finetune_sign_digits.py',
    '../_base_/runtime_classification.py',
]

model = dict(
    type='Classifier',
    data_preprocessor=_base_.data_preprocessor,
    encoder=dict(
        type='ViT',
        arch='vit_tiny_patch16_224',
        patch_size=8,
        embed_dim=128,
        depth=4,
        num_heads=4,
        img_size=64,
        final_norm=False,
        init_cfg=dict(type='Pretrained', checkpoint='work_dirs/quickstart/epoch_20.pth', prefix='encoder'),
    ),
    num_classes=2,
    pooling='mean',
    head_norm=True,
)
train_cfg = dict(max_epochs=10)
