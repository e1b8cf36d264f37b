# GreenMIM of a Swin-T of half the width, on the small sets; windows of 6 divide its maps.
_base_ = ['./_base_/sets_192.py', './_base_/pretrain.py', '../_base_/runtime.py']

model = dict(
    type='MaskedAutoencoder',
    data_preprocessor=_base_.data_preprocessor,
    encoder=dict(
        type='Swin',
        arch='swin_tiny_patch4_window7_224',
        embed_dim=48,
        num_heads=(2, 4, 8, 16),
        window_size=6,
        img_size=192,
    ),
    masking=dict(type='RandomMasking', ratio=0.75),
    decoder=dict(type='TransformerDecoder', embed_dim=192, depth=1, num_heads=6),
    objectives=dict(pixel=dict(target=dict(type='PixelTarget', norm_pix=True), losses=[dict(type='MaskedL2Loss')])),
)
