# A ConvNeXt, V1 or V2, on your own images, by FCMAE (arXiv:2301.00808): set data_root, the folder that holds them. All
# settings at the top of this file and of its bases may be set in a config that inherits from it, or on the command
# line: --cfg-options data_root=photos size=160.
_base_ = ['../../_base_/schedules/folder.py', '../../_base_/runtime.py']

# architecture       parameters   decoder_dim   decoder_depth
# convnextv2_atto         3.4 M           128               1
# convnextv2_tiny          28 M           256               1
# convnextv2_base          88 M           512               1
arch = 'convnextv2_tiny'
decoder_dim = 256
decoder_depth = 1
ratio = 0.6  # share of the cells that is hidden
weights = None  # file of weights that the encoder begins with
channels_rule = 'sum'  # how weights for another number of channels are converted

model = dict(
    type='MaskedAutoencoder',
    data_preprocessor=_base_.data_preprocessor,
    encoder=dict(
        type='ConvNeXt',
        arch=arch,
        in_chans=_base_.channels,
        init_cfg=weights and dict(type='Pretrained', checkpoint=weights, channels=channels_rule),
    ),
    masking=dict(type='RandomMasking', ratio=ratio),
    decoder=dict(type='ConvNeXtDecoder', embed_dim=decoder_dim, depth=decoder_depth),
    objectives=dict(pixel=dict(target=dict(type='PixelTarget', norm_pix=True), losses=[dict(type='MaskedL2Loss')])),
)
default_hooks = dict(watch=_base_.watch)
