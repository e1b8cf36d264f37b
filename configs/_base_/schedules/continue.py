# Pretraining goes on from public weights: what all of configs/continue share. docs/continue.md has the measurements.
encoder_lr = 0.03  # share of the learning rate that the encoder gets: at the full rate it loses what it knows
labels = None  # folder of labeled images (train/<class> and test/<class>, or class folders), by which it is watched
watched = 512  # most images of the watch

paramwise_cfg = dict(encoder_lr_mult=encoder_lr)
watch = dict(type='WatchHook', labels=labels, images=watched)
