# SimMIM's fine-tuning of Swin-B, pretrained for 800 epochs: 2048 images per step. Windows grow from 6 to 7 tokens, and
# the tables of relative positions with them. Published: 84.0% top-1; after 100 epochs of pretraining decay_rate is 0.9.
_base_ = [
    '../_base_/datasets/imagenet_labeled.py',
    '../_base_/schedules/finetune_simmim.py',
    '../_base_/runtime_classification.py',
]

model = dict(
    type='Classifier',
    data_preprocessor={{_base_.data_preprocessor}},
    encoder=dict(
        type='Swin',
        arch='swin_base_patch4_window7_224',
        drop_path_rate=0.1,
        init_cfg=dict(
            type='Pretrained', checkpoint='work_dirs/simmim_swin-b_800e_imagenet/epoch_800.pth', prefix='encoder'
        ),
    ),
    num_classes=1000,
    pooling='mean',
    label_smoothing=0.1,
)
