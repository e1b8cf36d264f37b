# MAE's linear probe of ViT-B (arXiv:2111.06377, appendix A.1, table 10): 16384 images per step, for example 64
# processes of 256, cropped and flipped. LARS (arXiv:1708.03888) scales the steps of weights of two dimensions, decayed
# or not, and not those of biases. Published: 68.0% top-1.
_base_ = [
    '../_base_/datasets/imagenet_labeled.py',
    '../_base_/schedules/finetune.py',
    '../_base_/runtime_classification.py',
]

data_preprocessor = dict(_base_.data_preprocessor, random_erasing=0.0, mixup=None)
model = dict(
    type='Classifier',
    data_preprocessor=data_preprocessor,
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
crop_and_flip = _base_.train_dataloader.dataset.pipeline[:2]
train_dataloader = dict(batch_size=256, dataset=dict(pipeline=crop_and_flip))
auto_scale_lr = dict(base_batch_size=16384)
train_cfg = dict(max_epochs=90)
optim_wrapper = dict(
    constructor='GroupedOptimWrapperConstructor',
    paramwise_cfg=dict(_delete_=True, custom_keys={'linear.bias': dict(always_adapt=False)}),
    optimizer=dict(
        _delete_=True,
        type='Lars',
        lr=0.1 * 16384 / 256,
        momentum=0.9,
        weight_decay=0.0,
        trust_coeff=0.001,
        always_adapt=True,
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, begin=0, end=10, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=0.0, begin=10, by_epoch=True, convert_to_iter_based=True),
]
# When an epoch ends, the batch norm before the linear layer has the statistics of all processes.
custom_hooks = [dict(type='SyncBuffersHook')]
