# A linear probe of the three stages of configs/compare/fcmae_convnextv2.py on the sign digits; from scratch with --cfg-
# options model.encoder.init_cfg=None.
_base_ = [
    '../_base_/datasets/sign_digits.py',
    '../_base_/schedules/probe_sign_digits.py',
    '../_base_/runtime_classification.py',
]

model = dict(
    type='Classifier',
    data_preprocessor=_base_.data_preprocessor,
    encoder=dict(
        type='ConvNeXt',
        arch='convnextv2_atto',
        out_indices=(2,),
        init_cfg=dict(type='Pretrained', checkpoint='work_dirs/fcmae_convnextv2/epoch_20.pth', prefix='encoder'),
    ),
    num_classes=10,
    pooling='mean',
    freeze=True,
    batch_norm=True,
)
