# AdamW for the images of a folder: a warm-up over a twentieth of the training, then a cosine to zero.
_base_ = '../datasets/folder.py'

epochs = 400  # how often each image is seen
steps = None  # iterations after which the training ends, within its last epoch; None for whole epochs
minutes = None  # those of --minutes of the command that fitted the length to them; for information only
validate_every = 10  # epochs of the log between two validations
base_lr = 6e-4  # learning rate for 256 images per step, that of MAE; it goes with the root of the batch size
weight_decay = 0.05
wait_steps = 0  # steps in which an encoder that begins with weights waits for the fresh decoder
labels = None  # labeled images by which it is watched: class folders, a CSV, or a folder of images and masks
watched = 512  # most images of the watch
precision = 'bfloat16'  # or 'float32', on devices without instructions for bfloat16

max_epochs = max(1, epochs // _base_.repeat)
warmup = max(max_epochs / 20, min(1, max_epochs / 2)) if steps is None else max(2, steps // 20)
counted = dict(by_epoch=True, convert_to_iter_based=True) if steps is None else dict(by_epoch=False)
train_cfg = dict(type='EpochTrainLoop', max_epochs=max_epochs, val_interval=validate_every, end_iter=steps)
auto_scale_lr = dict(base_batch_size=_base_.batch_size)
optim_wrapper = dict(
    type='AutocastOptimWrapper',
    dtype=precision,
    constructor='GroupedOptimWrapperConstructor',
    clip_grad=dict(max_norm=5.0),
    optimizer=dict(
        type='AdamW',
        lr=base_lr * (_base_.batch_size / 256) ** 0.5,  # arXiv:2205.10287: AdamW's; MAE's own rule is for thousands
        betas=(0.9, 0.95),
        weight_decay=weight_decay,
        fused=True,
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, begin=0, end=warmup, **counted),
    dict(type='CosineAnnealingLR', eta_min=0.0, begin=warmup, **counted),
]
custom_hooks = [dict(type='FreezeEncoderHook', steps=wait_steps)] if wait_steps else []
watch = dict(type='WatchHook', labels=labels, images=watched)
