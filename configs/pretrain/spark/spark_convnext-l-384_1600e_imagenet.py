# ConvNeXt-L at 384 pixels: more is hidden, and twice the base rate for half the batch, 2048 images per step, for
# example 128 processes of 16.
_base_ = './spark_convnext-b_1600e_imagenet.py'

model = dict(encoder=dict(arch='convnext_large', drop_path_rate=0.4), masking=dict(ratio=0.75))
auto_scale_lr = dict(base_batch_size=2048)
optim_wrapper = dict(optimizer=dict(lr=4e-4 * 2048 / 256))
train_dataloader = dict(
    batch_size=16,
    dataset=dict(
        pipeline=[
            dict(type='RandomResizedCrop', size=384, scale=(0.67, 1.0), interpolation='bicubic'),
            dict(type='RandomFlip', prob=0.5),
        ],
    ),
)
val_dataloader = dict(
    batch_size=16,
    dataset=dict(pipeline=[dict(type='Resize', size=438, interpolation='bicubic'), dict(type='CenterCrop', size=384)]),
)
