# Pretraining goes on from public weights: what all of configs/continue share. docs/continue.md has the measurements.
encoder_lr = 0.03  # share of the learning rate that the encoder gets: at the full rate it loses what it knows

paramwise_cfg = dict(encoder_lr_mult=encoder_lr)
