# FCMAE, ConvNeXt V2-B, as published (arXiv:2301.00808, appendix A.1, table 9): 4096 images per step, for example 64
# processes of 64, in float32. The schedule is MAE's, twice as long.
_base_ = [
    '../../_base_/datasets/imagenet.py',
    '../../_base_/schedules/mae_800e.py',
    '../../_base_/runtime.py',
]

model = dict(
    type='MaskedAutoencoder',
    data_preprocessor=_base_.data_preprocessor,
    encoder=dict(type='ConvNeXt', arch='convnextv2_base'),
    masking=dict(type='RandomMasking', ratio=0.6),
    decoder=dict(type='ConvNeXtDecoder', embed_dim=512, depth=1),
    objectives=dict(pixel=dict(target=dict(type='PixelTarget', norm_pix=True), losses=[dict(type='MaskedL2Loss')])),
)
train_cfg = dict(max_epochs=1600)
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    constructor='GroupedOptimWrapperConstructor',
    # Gains and biases of GRN are decayed, as in the official code, where they have two dimensions.
    paramwise_cfg=dict(custom_keys=dict(grn=dict(decay_mult=1.0))),
    optimizer=_base_.optim_wrapper.optimizer,
)
