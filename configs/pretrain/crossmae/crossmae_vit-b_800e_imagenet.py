# CrossMAE, ViT-B/16, as published: 4096 images per step, for example 64 processes of 64. The encoder gives the embedded
# patches and the output of every block, none of them normalized. A third of the hidden patches is predicted, and the
# learning rate is a third of MAE's.
_base_ = [
    '../../_base_/datasets/imagenet.py',
    '../../_base_/schedules/mae_800e.py',
    '../../_base_/runtime.py',
]

model = dict(
    type='MaskedAutoencoder',
    data_preprocessor=_base_.data_preprocessor,
    encoder=dict(type='ViT', arch='vit_base_patch16_224', img_size=224, out_indices=(-1, *range(12)), final_norm=False),
    masking=dict(type='RandomMasking', ratio=0.75, predict_ratio=0.25),
    decoder=dict(type='CrossAttentionDecoder', embed_dim=512, depth=12, num_heads=16),
    objectives=dict(pixel=dict(target=dict(type='PixelTarget', norm_pix=True), losses=[dict(type='MaskedL2Loss')])),
)
optim_wrapper = dict(optimizer=dict(lr=1.5e-4 * 4096 / 256 * 0.25 / 0.75))
