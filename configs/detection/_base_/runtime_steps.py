# The runtime of detectors for a schedule that counts steps, not epochs.
_base_ = './runtime.py'

log_processor = dict(by_epoch=False)
default_hooks = dict(
    logger=dict(interval=20),
    checkpoint=dict(by_epoch=False, interval=250, max_keep_ckpts=1),
)
