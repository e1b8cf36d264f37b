# Hiera's fine-tuning of Hiera-B (arXiv:2306.00989, appendix B): MAE's recipe with all three poolings, learning rate
# 2e-3 at 1024 images per step. Published: 84.5% top-1.
_base_ = [
    '../_base_/datasets/imagenet_labeled.py',
    '../_base_/schedules/finetune.py',
    '../_base_/runtime_classification.py',
]

model = dict(
    type='Classifier',
    data_preprocessor=_base_.data_preprocessor,
    encoder=dict(
        type='Hiera',
        arch='hiera_base_224',
        drop_path_rate=0.1,
        init_cfg=dict(
            type='Pretrained', checkpoint='work_dirs/hiera_hiera-b_1600e_imagenet/epoch_1600.pth', prefix='encoder'
        ),
    ),
    num_classes=1000,
    pooling='mean',
    head_norm=True,
    head_std=2e-5,  # 0.02 times head_init=0.001
    label_smoothing=0.1,
)
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.7), optimizer=dict(lr=2e-3))
