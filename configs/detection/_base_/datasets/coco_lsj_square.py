# COCO 2017 with large-scale jittering, padded to squares of 1024 pixels, in testing too, for encoders of one size.
_base_ = './coco_lsj.py'

pad = dict(type='Pad', size=(1024, 1024), pad_val=dict(img=(114, 114, 114)))
jitter = _base_.train_dataloader.dataset.pipeline
train_dataloader = dict(dataset=dict(pipeline=[*jitter[:5], pad, *jitter[5:]]))
held_out = _base_.val_dataloader.dataset.pipeline
resize = dict(type='Resize', scale=(1024, 1024), keep_ratio=True)
val_dataloader = test_dataloader = dict(dataset=dict(pipeline=[held_out[0], resize, pad, *held_out[2:]]))
