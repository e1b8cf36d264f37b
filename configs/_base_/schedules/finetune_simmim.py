# SimMIM's fine-tuning (arXiv:2111.09886, appendix A.2; the official configs): base learning rate 1.25e-3 for 512
# images, batch 2048, twenty epochs of warm-up from 2.5e-7, cosine to 2.5e-7 (both for 512 images), gradients clipped at
# 5.
_base_ = './finetune.py'

auto_scale_lr = dict(base_batch_size=2048)
optim_wrapper = dict(
    paramwise_cfg=dict(decay_rate=0.8),
    clip_grad=dict(max_norm=5.0),
    optimizer=dict(lr=1.25e-3 * 2048 / 512),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=2e-4, begin=0, end=20, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=2e-4, begin=20, by_epoch=True, convert_to_iter_based=True),
]
