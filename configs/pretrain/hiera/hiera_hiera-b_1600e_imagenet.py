# Hiera's masked autoencoder, Hiera-B, as published (arXiv:2306.00989, appendix B): 4096 images per step, for example 64
# processes of 64. Two of the three poolings, so that the last map has stride 16; the decoder reads stages 1, 2 and 4.
_base_ = [
    '../../_base_/datasets/imagenet.py',
    '../../_base_/schedules/mae_800e.py',
    '../../_base_/runtime.py',
]

model = dict(
    type='MaskedAutoencoder',
    data_preprocessor=_base_.data_preprocessor,
    encoder=dict(
        type='Hiera', arch='hiera_base_224', img_size=224, q_pool=2, out_indices=(0, 1, 3), drop_path_rate=0.2
    ),
    masking=dict(type='RandomMasking', ratio=0.6),
    decoder=dict(type='TransformerDecoder', embed_dim=512, depth=8, num_heads=16, fusion=True, positions='learned'),
    objectives=dict(pixel=dict(target=dict(type='PixelTarget', norm_pix=True), losses=[dict(type='MaskedL2Loss')])),
)
train_cfg = dict(max_epochs=1600)
optim_wrapper = dict(optimizer=dict(lr=8e-4))
