# A Hiera on your own images (arXiv:2306.00989): set data_root, the folder that holds them. All settings at the top of
# this file and of its bases may be set in a config that inherits from it, or on the command line:
# --cfg-options data_root=photos size=160.
_base_ = ['../../_base_/schedules/folder.py', '../../_base_/runtime.py']

# architecture       parameters   decoder_dim   decoder_depth
# hiera_tiny_224           27 M           256               4
# hiera_base_224           51 M           256               4
# hiera_large_224         213 M           512               8
arch = 'hiera_tiny_224'
decoder_dim = 256
decoder_depth = 4
ratio = 0.6  # share of the cells that is hidden
base_lr = 2e-4  # learning rate for 256 images per step, as published for 4096 (8e-4)
weights = None  # file of weights that the encoder begins with
channels_rule = 'sum'  # how weights for another number of channels are converted

model = dict(
    type='MaskedAutoencoder',
    data_preprocessor=_base_.data_preprocessor,
    encoder=dict(
        type='Hiera',
        arch=arch,
        img_size=_base_.size,
        in_chans=_base_.channels,
        q_pool=2,  # the last map has stride 16
        out_indices=(0, 1, 3),
        init_cfg=weights and dict(type='Pretrained', checkpoint=weights, channels=channels_rule),
    ),
    masking=dict(type='RandomMasking', ratio=ratio),
    decoder=dict(
        type='TransformerDecoder',
        embed_dim=decoder_dim,
        depth=decoder_depth,
        num_heads=decoder_dim // 32,
        fusion=True,
    ),
    objectives=dict(pixel=dict(target=dict(type='PixelTarget', norm_pix=True), losses=[dict(type='MaskedL2Loss')])),
)
default_hooks = dict(watch=_base_.watch)
