# SimMIM's fine-tuning of Swin-B, pretrained for 800 epochs (arXiv:2111.09886, appendix A.2; the official configs): 2048
# images per step; the warm-up begins and the cosine ends at a rate of 2.5e-7 for 512 images. Windows grow from 6 to 7
# tokens, and the tables of relative positions with them. Published: 84.0% top-1; after 100 epochs of pretraining
# decay_rate is 0.9.
_base_ = [
    '../_base_/datasets/imagenet_labeled.py',
    '../_base_/schedules/finetune.py',
    '../_base_/runtime_classification.py',
]

model = dict(
    type='Classifier',
    data_preprocessor=_base_.data_preprocessor,
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
auto_scale_lr = dict(base_batch_size=2048)
optim_wrapper = dict(
    paramwise_cfg=dict(decay_rate=0.8),
    clip_grad=dict(max_norm=5.0),
    optimizer=dict(lr=1.25e-3 * 2048 / 512),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=2e-4, begin=0, end=20, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=2e-4, begin=20, by_epoch=True, convert_to_iter_based=True),
]
