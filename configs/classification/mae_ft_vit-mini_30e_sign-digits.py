# Fine-tuning of the small ViT of configs/compare/mae_vit.py on the sign digits; from scratch with --cfg-options
# model.encoder.init_cfg=None.
_base_ = [
    '../_base_/encoders/vit_mini.py',
    '../_base_/datasets/sign_digits.py',
    '../_base_/schedules/finetune_sign_digits.py',
    '../_base_/runtime_classification.py',
]

model = dict(
    type='Classifier',
    data_preprocessor=_base_.data_preprocessor,
    encoder=dict(
        _base_.encoder,
        img_size=64,
        positions='learned',
        drop_path_rate=0.1,
        final_norm=False,
        init_cfg=dict(type='Pretrained', checkpoint='work_dirs/mae_vit/epoch_20.pth', prefix='encoder'),
    ),
    num_classes=10,
    pooling='mean',
    head_norm=True,
    label_smoothing=0.1,
)
