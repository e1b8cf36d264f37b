# A Swin, V1 or V2, on your own images, by visible tokens alone as in GreenMIM (arXiv:2205.13515): set data_root, the
# folder that holds them. All settings at the top of this file and of its bases may be set in a config that inherits
# from it, or on the command line: --cfg-options data_root=photos size=160.
_base_ = ['../../_base_/schedules/folder.py', '../../_base_/runtime.py']

# architecture                    parameters   decoder_dim   decoder_depth
# swin_tiny_patch4_window7_224          28 M           256               1
# swin_small_patch4_window7_224         49 M           256               1
# swin_base_patch4_window7_224          87 M           512               1
arch = 'swin_tiny_patch4_window7_224'
decoder_dim = 256
decoder_depth = 1
ratio = 0.75  # share of the cells that is hidden
weights = None  # file of weights that the encoder begins with
channels_rule = 'sum'  # how weights for another number of channels are converted

model = dict(
    type='MaskedAutoencoder',
    data_preprocessor=_base_.data_preprocessor,
    encoder=dict(
        type='Swin',
        arch=arch,
        img_size=_base_.size,
        in_chans=_base_.channels,
        init_cfg=weights and dict(type='Pretrained', checkpoint=weights, channels=channels_rule),
    ),
    masking=dict(type='RandomMasking', ratio=ratio),
    decoder=dict(type='TransformerDecoder', embed_dim=decoder_dim, depth=decoder_depth, num_heads=decoder_dim // 32),
    objectives=dict(pixel=dict(target=dict(type='PixelTarget', norm_pix=True), losses=[dict(type='MaskedL2Loss')])),
)
default_hooks = dict(watch=_base_.watch)
