# A vision transformer with rotary positions (DINOv3, EVA-02, Perception Encoder, RoPE-ViT) on your own images, by MAE
# (arXiv:2111.06377): set data_root, the folder that holds them. All settings at the top of this file and of its bases
# may be set in a config that inherits from it, or on the command line: --cfg-options data_root=photos size=160.
_base_ = ['../../_base_/schedules/folder.py', '../../_base_/runtime.py']

# architecture               parameters   decoder_dim   decoder_depth
# eva02_tiny_patch14_224          5.5 M           128               4
# vit_small_patch16_dinov3         22 M           256               4
# vit_base_patch16_dinov3          86 M           512               8
arch = 'vit_small_patch16_dinov3'
decoder_dim = 256
decoder_depth = 4
ratio = 0.75  # share of the cells that is hidden
weights = None  # file of weights that the encoder begins with
channels_rule = 'sum'  # how weights for another number of channels are converted

model = dict(
    type='MaskedAutoencoder',
    data_preprocessor=_base_.data_preprocessor,
    encoder=dict(
        type='Eva',
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
