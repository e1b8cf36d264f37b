# Any CNN of timm on your own images, by SparK (arXiv:2301.03580): set data_root, the folder that holds them. All
# settings at the top of this file and of its bases may be set in a config that inherits from it, or on the command
# line: --cfg-options data_root=photos size=160.
_base_ = ['../../_base_/schedules/folder.py', '../../_base_/runtime.py']

# architecture             parameters   decoder_dim
# tf_efficientnet_lite0         3.0 M           128
# resnet50                       24 M           256
# resnet101                      43 M           256
arch = 'resnet50'
levels = (1, 2, 3, 4)  # of the maps that timm counts for the architecture: those of strides 4 to 32
decoder_dim = 256  # at the greatest stride; half of it at the next
ratio = 0.6  # share of the cells that is hidden
weights = None  # file of weights that the encoder begins with
channels_rule = 'sum'  # how weights for another number of channels are converted

model = dict(
    type='MaskedAutoencoder',
    data_preprocessor=_base_.data_preprocessor,
    encoder=dict(
        type='SparseCNN',
        arch=arch,
        in_chans=_base_.channels,
        out_indices=levels,
        init_cfg=weights and dict(type='Pretrained', checkpoint=weights, channels=channels_rule),
    ),
    masking=dict(type='RandomMasking', ratio=ratio, count='round_visible'),
    decoder=dict(type='UNetDecoder', width=decoder_dim, norm='batch'),
    objectives=dict(pixel=dict(target=dict(type='PixelTarget', norm_pix=True), losses=[dict(type='MaskedL2Loss')])),
)
default_hooks = dict(watch=_base_.watch)
