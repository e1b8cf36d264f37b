# As spark_lite0.py, from ImageNet's weights, as docs/continue.md recommends: the learning rate of the encoder is a part
# of the decoder's, and its batch norms keep the statistics of the weights with which it begins.
_base_ = './spark_lite0.py'

lr = 1e-3
encoder_lr = 0.03  # as a part of lr
wait = 30  # steps during which only the decoder trains

model = dict(
    encoder=dict(
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='work_dirs/pretrained/efficientnet-lite0.pth'),
    ),
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(encoder=dict(lr_mult=encoder_lr))))
custom_hooks = [dict(type='FreezeEncoderHook', steps=wait)]
