# A stand-in for public weights of a ConvNeXt V2, where there are none: ConvNeXt V2-A predicts the features of
# ImageNet's EfficientNet-Lite0 on the images of data/own.
_base_ = ['../../_base_/datasets/sets.py', '../../_base_/schedules/compare.py', '../../_base_/runtime.py']

data_root = 'data/own'
epochs = 12
scaling = dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5])  # of EfficientNet-Lite: -1 to 1

model = dict(
    type='MaskedAutoencoder',
    data_preprocessor=dict(type='ImagePreprocessor', **scaling),
    encoder=dict(type='ConvNeXt', arch='convnextv2_atto'),
    masking=dict(type='RandomMasking', ratio=0.5),
    decoder=dict(type='ConvNeXtDecoder', embed_dim=128),
    objectives=dict(
        feature=dict(
            target=dict(
                type='FeatureTarget',
                network=dict(type='SparseCNN', arch='tf_efficientnet_lite0'),
                checkpoint='work_dirs/pretrained/efficientnet-lite0.pth',
                network_mean=[127.5, 127.5, 127.5],
                network_std=[127.5, 127.5, 127.5],
            ),
            losses=[dict(type='MaskedL2Loss')],
        ),
    ),
)
train_cfg = dict(max_epochs=epochs, val_interval=epochs)
train_dataloader = dict(num_workers=0, persistent_workers=False)
default_hooks = dict(checkpoint=dict(interval=4), reconstruction=None)
