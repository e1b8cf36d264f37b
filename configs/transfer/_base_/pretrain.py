# One schedule for all encoders of the table: a warm-up, then a cosine to zero.
_base_ = '../../_base_/schedules/compare.py'

train_cfg = dict(max_epochs=200, val_interval=200)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=5, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=0.0, begin=5, by_epoch=True, convert_to_iter_based=True),
]
