# SparK of EfficientNet-Lite0 from scratch, on the training images of one set in data/own.
_base_ = ['../../_base_/datasets/sets.py', '../../_base_/schedules/compare.py', '../../_base_/runtime.py']

data_root = 'data/own'
split = 'sign_digits/train'
ann_file = None
epochs = 20
lr = 1e-3

model = dict(
    type='MaskedAutoencoder',
    data_preprocessor=dict(type='ImagePreprocessor', mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]),
    encoder=dict(type='SparseCNN', arch='tf_efficientnet_lite0', out_indices=(1, 2, 3, 4)),
    masking=dict(type='RandomMasking', ratio=0.6),
    decoder=dict(type='UNetDecoder', width=128),
    objectives=dict(pixel=dict(target=dict(type='PixelTarget', norm_pix=True), losses=[dict(type='MaskedL2Loss')])),
)
train_cfg = dict(max_epochs=epochs, val_interval=epochs)
train_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(ann_file=ann_file, split=split))
optim_wrapper = dict(optimizer=dict(lr=lr))
default_hooks = dict(checkpoint=dict(interval=5), reconstruction=None)
