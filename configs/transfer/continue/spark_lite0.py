# SparK of EfficientNet-Lite0 from scratch, on the images of data/own (or data_root=...).
_base_ = ['../../_base_/datasets/sets.py', '../../_base_/schedules/compare.py', '../../_base_/runtime.py']

data_root = 'data/own'
epochs = 30
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
train_dataloader = dict(num_workers=0, persistent_workers=False)
optim_wrapper = dict(optimizer=dict(lr=lr))
default_hooks = dict(checkpoint=dict(interval=5))
