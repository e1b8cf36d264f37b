# FCMAE of ConvNeXt V2-A on the sign digits, from the weights of distill_convnextv2.py.
_base_ = ['../../_base_/datasets/sets.py', '../../_base_/schedules/compare.py', '../../_base_/runtime.py']

data_root = 'data/own'
split = 'sign_digits/train'
epochs = 6
lr = 1e-3
encoder_lr = 0.03  # as a part of lr
wait = 30  # steps during which only the decoder trains

model = dict(
    type='MaskedAutoencoder',
    data_preprocessor=dict(type='ImagePreprocessor', mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]),
    encoder=dict(
        type='ConvNeXt',
        arch='convnextv2_atto',
        init_cfg=dict(type='Pretrained', checkpoint='work_dirs/pretrained/convnextv2_start.pth', prefix='encoder'),
    ),
    masking=dict(type='RandomMasking', ratio=0.6),
    decoder=dict(type='ConvNeXtDecoder', embed_dim=128),
    objectives=dict(pixel=dict(target=dict(type='PixelTarget', norm_pix=True), losses=[dict(type='MaskedL2Loss')])),
)
train_cfg = dict(max_epochs=epochs, val_interval=epochs)
train_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(ann_file=None, split=split))
optim_wrapper = dict(
    optimizer=dict(lr=lr),
    paramwise_cfg=dict(custom_keys=dict(encoder=dict(lr_mult=encoder_lr))),
)
default_hooks = dict(checkpoint=dict(interval=4), reconstruction=None)
custom_hooks = [dict(type='FreezeEncoderHook', steps=wait)]
